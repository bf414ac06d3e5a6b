//! The program under other names: sendmail, mailq, newaliases.

use mta_core::control::{ListArguments, Request};

use super::{load, queue, tell};
use crate::args::QueueList;
use crate::client::{Client, Problem};
use crate::exit::Exit;

/// `mailq`: the queue as `queue list` shows it. Options of other mail systems are ignored.
pub fn mailq(_arguments: &[String]) -> Exit {
    let list = || {
        let (config, _) = load(None)?;
        let request = Request::QueueList(ListArguments::default());
        queue::list(&mut Client::connect(&config, false)?, &request, &QueueList::default())
    };
    tell(list())
}

/// `newaliases`: there is nothing to rebuild, and programs that call it must not fail.
pub fn newaliases() -> Exit {
    Exit::DONE
}

/// `sendmail`: the queue (`-bp`) and aliases (`-bi`) forms; taking mail from the command line is not there yet, and says so.
pub fn sendmail(arguments: &[String]) -> Exit {
    if arguments.iter().any(|a| a == "-bp") {
        return mailq(arguments);
    }
    if arguments.iter().any(|a| a == "-bi") {
        return newaliases();
    }
    let text =
        "sendmail: this version takes mail by SMTP only; send it to the address that smtp.listen names";
    tell(Err(Problem::new(Exit::UNREACHABLE, text)))
}
