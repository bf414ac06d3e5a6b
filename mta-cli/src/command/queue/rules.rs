//! `queue hold-rule`: rules that hold mail to come.

use std::time::SystemTime;

use mta_core::control::{HoldRuleArguments, HoldRuleView, Request};
use serde_json::json;

use super::super::Ended;
use super::select::ahead;
use crate::args::{HoldRuleAdd, HoldRuleList, HoldRuleRemove};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table, relative};

pub(super) fn list(client: &mut Client, verb: &HoldRuleList) -> Ended {
    let mut rules: Vec<HoldRuleView> = Vec::new();
    client.ask_all(&Request::HoldRuleList, &mut |rule| rules.push(rule))?;
    if verb.jsonl {
        output::print_lines(&rules);
    } else if verb.json {
        output::print_json(json!({ "rules": rules }));
    } else {
        let (person, now) = (output::for_person(), SystemTime::now());
        let time = |t: &Option<String>| {
            let t = t.as_deref().unwrap_or_default();
            if person && !t.is_empty() { relative(t, now) } else { t.to_owned() }
        };
        let mut table = Table::new(&["RULE", "TO", "FROM", "SINCE", "UNTIL", "BY", "REASON"]);
        for rule in &rules {
            table.row(vec![
                rule.id.to_string(),
                rule.to.clone().unwrap_or_default(),
                rule.from.clone().unwrap_or_default(),
                time(&rule.since),
                time(&rule.until),
                rule.by.clone(),
                rule.reason.clone(),
            ]);
        }
        table.print();
        if rules.is_empty() && person {
            eprintln!("mta-cli: there are no hold rules");
        }
    }
    Ok(Exit::DONE)
}

pub(super) fn add_request(verb: &HoldRuleAdd) -> Result<Request, Problem> {
    if verb.to.is_none() && verb.from.is_none() {
        return Err(Problem::new(Exit::USAGE, "queue hold-rule add: say what to hold, with --to or --from"));
    }
    Ok(Request::HoldRuleAdd(HoldRuleArguments {
        to: verb.to.clone(),
        from: verb.from.clone(),
        reason: verb.reason.clone(),
        until: verb.until.as_deref().map(|text| ahead("--until", text)).transpose()?,
    }))
}

pub(super) fn add(client: &mut Client, request: &Request, verb: &HoldRuleAdd) -> Ended {
    let id = client.ask(request, &mut |_| ())?.count;
    if verb.json {
        output::print_json(json!({ "rule": id }));
    } else {
        output::print(&format!("rule {id} holds mail that comes from now on\n"));
    }
    Ok(Exit::DONE)
}

pub(super) fn remove(client: &mut Client, verb: &HoldRuleRemove) -> Ended {
    client.ask(&Request::HoldRuleRemove(verb.id), &mut |_| ())?;
    if verb.json {
        output::print_json(json!({ "removed": verb.id }));
    } else {
        output::print(&format!("rule {} is removed; what it has held stays held\n", verb.id));
    }
    Ok(Exit::DONE)
}
