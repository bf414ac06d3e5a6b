//! Real software in the laboratory: Postfix, nsd, unbound, the zone signers of ldns and BIND, swaks.
//!
//! Each runs from a folder of its own with a configuration written here, on the laboratory's addresses, and is stopped
//! when dropped. What is not installed is said plainly by [`missing`], and the test that needs it skips.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::cert::Identity;

/// How long a peer may take to listen.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// The first of these programs that is not installed, after saying so for the reader of the test's output.
pub fn missing(programs: &[&str]) -> Option<String> {
    let absent = programs.iter().find(|program| find(program).is_none())?;
    println!("SKIPPED: {absent} is not installed");
    Some((*absent).to_owned())
}

/// Whether this test cannot run because it needs root, after saying so.
pub fn needs_root() -> bool {
    let lacks = !nix::unistd::geteuid().is_root();
    if lacks {
        println!("SKIPPED: only root can run this program");
    }
    lacks
}

/// A program on the path or where administrators' programs lie.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|folder| Path::new(folder).join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs a program to its end.
///
/// # Errors
///
/// It is not installed, or failed; its words are in the error.
pub fn run(program: &str, arguments: &[&str], folder: &Path) -> io::Result<Output> {
    let path = find(program).ok_or_else(|| io::Error::other(format!("{program} is not installed")))?;
    let output = Command::new(path).args(arguments).current_dir(folder).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(io::Error::other(format!("{program} {}: {said}", output.status)))
}

/// The same with something on its standard input.
///
/// # Errors
///
/// As for [`run`].
pub fn run_with_input(program: &str, arguments: &[&str], folder: &Path, input: &[u8]) -> io::Result<Output> {
    use std::io::Write as _;
    let path = find(program).ok_or_else(|| io::Error::other(format!("{program} is not installed")))?;
    let mut child = Command::new(path)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A program that has heard enough may have closed it.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(output);
    }
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Err(io::Error::other(format!("{program} {}: {said}", output.status)))
}

/// Exim, which cannot be installed beside Postfix: as `tests/run` has unpacked it, or installed all the same. Says so where it
/// is not there.
pub fn exim() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/exim/usr/sbin/exim4");
    let user = nix::unistd::User::from_name("Debian-exim").ok().flatten();
    let found = unpacked.is_file().then_some(unpacked).or_else(|| find("exim4")).filter(|_| user.is_some());
    if found.is_none() {
        println!("SKIPPED: exim4 and its user are not there; tests/run sees to both");
    }
    found
}

/// Waits until somebody listens.
fn wait_for_port(address: SocketAddr, mut ended: impl FnMut() -> Option<String>) -> io::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while Instant::now() < deadline {
        if TcpStream::connect_timeout(&address, POLL).is_ok() {
            return Ok(());
        }
        if let Some(words) = ended() {
            return Err(io::Error::other(words));
        }
        std::thread::sleep(POLL);
    }
    Err(io::Error::other(format!("nobody listens at {address}")))
}

/// A program that stays in the foreground. Killed when dropped.
pub struct Service {
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a program and waits until it listens at this address.
    ///
    /// # Errors
    ///
    /// It ended, or nobody listens; its log is in the error.
    pub fn start(program: &str, arguments: &[&str], folder: &Path, listens: SocketAddr) -> io::Result<Self> {
        let path = find(program).ok_or_else(|| io::Error::other(format!("{program} is not installed")))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let log = folder.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        let child = Command::new(path)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let mut service = Self { child, log };
        let program = program.to_owned();
        wait_for_port(listens, || {
            let status = service.child.try_wait().ok().flatten()?;
            Some(format!(
                "{program} ended, {status}: {}",
                fs::read_to_string(&service.log).unwrap_or_default()
            ))
        })?;
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// unbound as a forwarder for the daemon, in front of name servers that hold a private root.
///
/// # Errors
///
/// It does not start.
pub fn unbound(
    folder: &Path,
    listens: SocketAddr,
    root: SocketAddr,
    anchor: Option<&Path>,
) -> io::Result<Service> {
    let modules = if anchor.is_some() { "validator iterator" } else { "iterator" };
    let anchor = anchor.map_or_else(String::new, |file| format!(" trust-anchor-file: {}\n", file.display()));
    let config = format!(
        "server:\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n do-ip6: no\n \
         interface: {ip}@{port}\n do-not-query-localhost: no\n module-config: \"{modules}\"\n{anchor} \
         local-zone: \"example.\" nodefault\n outgoing-range: 64\n num-queries-per-thread: 64\n\
         stub-zone:\n name: \".\"\n stub-addr: {root_ip}@{root_port}\nremote-control:\n control-enable: no\n",
        ip = listens.ip(),
        port = listens.port(),
        root_ip = root.ip(),
        root_port = root.port(),
    );
    fs::write(folder.join("unbound.conf"), config)?;
    Service::start("unbound", &["-d", "-c", "unbound.conf"], folder, listens)
}

/// nsd with these zones (name and file).
///
/// # Errors
///
/// It does not start.
pub fn nsd(folder: &Path, listens: SocketAddr, zones: &[(&str, &Path)]) -> io::Result<Service> {
    let mut config = format!(
        "server:\n ip-address: {}@{}\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n zonesdir: \"{dir}\"\n \
         database: \"\"\n zonelistfile: \"{dir}/zone.list\"\n xfrdfile: \"{dir}/xfrd.state\"\n xfrdir: \"{dir}\"\n \
         cookie-secret-file: \"\"\n\
         remote-control:\n control-enable: no\n",
        listens.ip(),
        listens.port(),
        dir = folder.display(),
    );
    for (name, file) in zones {
        config.push_str(&format!("zone:\n name: \"{name}\"\n zonefile: \"{}\"\n", file.display()));
    }
    config = config.replace(" cookie-secret-file: \"\"\n", "");
    fs::write(folder.join("nsd.conf"), config)?;
    Service::start("nsd", &["-d", "-c", "nsd.conf"], folder, listens)
}

/// A Postfix of its own: an MX host for some domains, or a client that relays everything.
pub struct Postfix {
    folder: PathBuf,
}

impl Postfix {
    /// Starts a Postfix that listens here, takes mail for these domains into `folder/mail/DOMAIN/MAILBOX/`, and relays
    /// all other mail to `relay`, where there is one. With an identity it offers STARTTLS.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub fn start(
        folder: &Path,
        listens: SocketAddr,
        domains: &[&str],
        identity: Option<&Identity>,
        relay: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let set_mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        for path in [folder.to_owned(), folder.join("spool"), folder.join("data"), folder.join("mail")] {
            fs::create_dir_all(&path)?;
            set_mode(&path, 0o755)?;
        }
        let postfix_user = nix::unistd::User::from_name("postfix")
            .ok()
            .flatten()
            .ok_or_else(|| io::Error::other("there is no user postfix"))?;
        for path in ["data", "mail"] {
            nix::unistd::chown(&folder.join(path), Some(postfix_user.uid), Some(postfix_user.gid))?;
        }
        let postfix = Self { folder: folder.to_owned() };
        let (uid, gid) = (postfix_user.uid, postfix_user.gid);
        let mut main = format!(
            "compatibility_level = 3.6\nqueue_directory = {folder}/spool\ndata_directory = {folder}/data\n\
             myhostname = mx.postfix.example\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nmydestination =\nalias_maps =\nsmtpd_peername_lookup = no\n\
             smtp_dns_support_level = disabled\nmaillog_file = {folder}/log\nmaillog_file_prefixes = {folder}\n\
             virtual_mailbox_domains = {domains}\nvirtual_mailbox_base = {folder}/mail\n\
             virtual_mailbox_maps = static:box/\nvirtual_minimum_uid = 1\nvirtual_uid_maps = static:{uid}\n\
             virtual_gid_maps = static:{gid}\n",
            folder = folder.display(),
            domains = domains.join(" "),
        );
        if let Some(relay) = relay {
            main.push_str(&format!("relayhost = [{}]:{}\n", relay.ip(), relay.port()));
        }
        if let Some(identity) = identity {
            let (chain, key) = (folder.join("chain.pem"), folder.join("key.pem"));
            fs::write(&chain, identity.chain_pem())?;
            fs::write(&key, identity.key_pem())?;
            main.push_str(&format!(
                "smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\n\
                 smtpd_tls_received_header = yes\nsmtpd_tls_loglevel = 1\n",
                chain.display(),
                key.display(),
            ));
        }
        fs::write(folder.join("main.cf"), main)?;
        fs::write(folder.join("master.cf"), master(listens))?;
        postfix.control("start")?;
        wait_for_port(listens, || None)
            .map_err(|error| io::Error::other(format!("{error}\n{}", postfix.log())))?;
        Ok(postfix)
    }

    /// Sets parameters of its main.cf, each as `name=value`.
    ///
    /// # Errors
    ///
    /// It does not take them.
    pub fn set(&self, parameters: &[&str]) -> io::Result<()> {
        let config = self.folder.display().to_string();
        let mut arguments = vec!["-c", &config, "-e"];
        arguments.extend(parameters);
        run("postconf", &arguments, &self.folder)?;
        self.control("reload")
    }

    /// Gives it another certificate and key.
    ///
    /// # Errors
    ///
    /// The files cannot be written, or it does not reload.
    pub fn set_identity(&self, identity: &Identity) -> io::Result<()> {
        fs::write(self.folder.join("chain.pem"), identity.chain_pem())?;
        fs::write(self.folder.join("key.pem"), identity.key_pem())?;
        // A reload leaves running smtpd processes with the old key until they end; a restart does not.
        self.control("stop")?;
        self.control("start")
    }

    /// Hands a message to its sendmail.
    ///
    /// # Errors
    ///
    /// It was not taken.
    pub fn sendmail(&self, from: &str, to: &str, content: &[u8]) -> io::Result<()> {
        self.sendmail_with(&[], from, to, content)
    }

    /// The same with further arguments.
    ///
    /// # Errors
    ///
    /// It was not taken.
    pub fn sendmail_with(&self, more: &[&str], from: &str, to: &str, content: &[u8]) -> io::Result<()> {
        use std::io::Write as _;
        let path = find("sendmail").ok_or_else(|| io::Error::other("sendmail is not installed"))?;
        let mut child = Command::new(path)
            .arg("-C")
            .arg(&self.folder)
            .args(more)
            .args(["-i", "-f", from, "--", to])
            .stdin(Stdio::piped())
            .spawn()?;
        child.stdin.take().expect("a pipe").write_all(content)?;
        let status = child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("sendmail {status}\n{}", self.log())))
        }
    }

    /// The messages it has delivered.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        let folder = self.folder.join("mail/box/new");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read(entry.path()).ok()).collect()
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn control(&self, verb: &str) -> io::Result<()> {
        let config = self.folder.display().to_string();
        let done = run("postfix", &["-c", &config, verb], &self.folder);
        done.map(drop).map_err(|error| io::Error::other(format!("{error}\n{}", self.log())))
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        drop(self.control("stop"));
    }
}

/// The services of Debian's Postfix, without chroot, listening here.
fn master(listens: SocketAddr) -> String {
    let services = "\
        pickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\n\
        tlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\nbounce unix - - n - 0 bounce\n\
        defer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\nverify unix - - n - 1 verify\n\
        flush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\nproxywrite unix - - n - 1 proxymap\n\
        smtp unix - - n - - smtp\nrelay unix - - n - - smtp\nshowq unix n - n - - showq\nerror unix - - n - - error\n\
        retry unix - - n - - error\ndiscard unix - - n - - discard\nlocal unix - n n - - local\n\
        virtual unix - n n - - virtual\nlmtp unix - - n - - lmtp\nanvil unix - - n - 1 anvil\n\
        scache unix - - n - 1 scache\npostlog unix-dgram n - n - 1 postlogd\n";
    format!("{listens} inet n - n - - smtpd\n{services}")
}

/// A loopback address and a free port for a peer.
pub fn free_address(last: u8) -> SocketAddr {
    let address = Ipv4Addr::new(127, 54, 0, last);
    let port = std::iter::repeat_with(|| fastrand::u16(10_000..30_000))
        .find(|port| std::net::TcpListener::bind((address, *port)).is_ok())
        .expect("an endless supply of numbers");
    (address, port).into()
}
