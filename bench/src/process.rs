//! The processor time and the memory of a process, from Linux's `/proc`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Linux counts a process's time in hundredths of a second, on every machine (USER_HZ).
const TICK: Duration = Duration::from_millis(10);
/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";
/// Programs that only pass connections on to a server in a container.
const PROXIES: [&str; 3] = ["docker-proxy", "rootlessport", "slirp4netns"];

/// A process to watch, or the reason why it cannot be watched.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    pub(crate) pid: Result<u32, String>,
}

/// The processor time of a process so far, and its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) memory_kb: u64,
}

impl Watched {
    /// The process of this machine that listens at an address.
    pub(crate) fn listening_at(name: &'static str, address: SocketAddr) -> Self {
        let pid = if address.ip().is_loopback() {
            listener(address.port()).and_then(|pid| {
                if pid == std::process::id() {
                    Err("it is in the generator's own process".to_owned())
                } else {
                    Ok(pid)
                }
            })
        } else {
            Err(format!("it runs on another machine, {}", address.ip()))
        };
        Self { name, pid }
    }

    /// The process with this id.
    pub(crate) fn process(name: &'static str, pid: u32) -> Self {
        Self { name, pid: Ok(pid) }
    }

    /// A process that cannot be watched.
    pub(crate) fn unknown(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, pid: Err(why.into()) }
    }

    /// The processor time and the memory so far.
    pub(crate) fn usage(&self) -> Result<Usage, String> {
        let pid = self.pid.clone()?;
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| {
            std::fs::read_to_string(folder.join(name)).map_err(|_| format!("/proc/{pid} cannot be read"))
        };
        let odd = || format!("/proc/{pid} cannot be understood");
        let cpu = cpu_of(&read("stat")?).ok_or_else(odd)?;
        let memory_kb = memory_of(&read("status")?).ok_or_else(odd)?;
        Ok(Usage { cpu, memory_kb })
    }
}

/// User and system time from `/proc/PID/stat`. The program's name, in brackets, may contain spaces and brackets.
fn cpu_of(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

/// The resident memory from `/proc/PID/status`, in KB.
fn memory_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The process that listens at a port.
fn listener(port: u16) -> Result<u32, String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(std::fs::read_to_string);
    if tables.iter().all(Result::is_err) {
        return Err("this system has no /proc".to_owned());
    }
    let inode = tables.iter().flatten().find_map(|table| inode_of(table, port));
    let inode = inode.ok_or_else(|| format!("nobody listens at port {port} of this machine"))?;
    let wanted = PathBuf::from(format!("socket:[{inode}]"));
    let processes = std::fs::read_dir("/proc").map_err(|error| error.to_string())?;
    let owner = processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        has_file(&process.path().join("fd"), &wanted).then_some(pid)
    });
    let pid = owner.ok_or_else(|| format!("the process at port {port} belongs to another user"))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if PROXIES.contains(&name.trim()) {
        return Err("it runs in a container".to_owned());
    }
    Ok(pid)
}

/// The inode number of the socket that listens at a port, from `/proc/net/tcp`.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && fields.get(3) == Some(&LISTENING);
        if is_it { fields.get(9)?.parse().ok() } else { None }
    })
}

/// True if the process has a file with this inode number open.
fn has_file(folder: &Path, wanted: &Path) -> bool {
    // Processes of other users cannot be read, and some processes end meanwhile.
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_program_with_an_odd_name_is_read() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 10 0 0 0 250 50 0 0 20 0 9 0 100 1000 200";
        assert_eq!(cpu_of(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu_of("42 (a) S 1"), None);
    }

    #[test]
    fn the_memory_is_the_resident_one() {
        assert_eq!(memory_of("Name:\tx\nVmSize:\t  900 kB\nVmRSS:\t  123 kB\n"), Some(123));
        assert_eq!(memory_of("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn only_a_socket_that_listens_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n\
             1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1\n";
        assert_eq!(inode_of(table, 8080), Some(12));
        assert_eq!(inode_of(table, 8081), None);
    }

    #[test]
    fn what_cannot_be_watched_says_why() {
        let elsewhere = Watched::listening_at("service", ([192, 0, 2, 1], 80).into());
        assert!(elsewhere.usage().unwrap_err().contains("another machine"));
        assert_eq!(Watched::unknown("Kafka", "no address").usage(), Err("no address".to_owned()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_listener_of_this_process_is_found_and_not_watched() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let watched = Watched::listening_at("service", listener.local_addr().unwrap());
        assert!(watched.usage().unwrap_err().contains("own process"), "{watched:?}");
        let own = Watched::process("generator", std::process::id()).usage().unwrap();
        assert!(own.memory_kb > 0, "{own:?}");
    }
}
