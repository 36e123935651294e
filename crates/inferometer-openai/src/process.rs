//! The process that serves a port of this machine.

/// The process that listens on a port of this machine; `None` if none does, or it cannot be seen.
#[cfg(target_os = "linux")]
pub fn listening(port: u16) -> Option<u32> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs_err::read_to_string(table).ok())
        .flat_map(|table| table.lines().filter_map(|line| socket_of(line, port)).collect::<Vec<_>>())
        .collect();
    let processes = fs_err::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut numbers: Vec<u32> = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // A server may hand its socket to its workers: the first process is the one that was started.
    numbers.sort_unstable();
    let found = numbers.into_iter().find(|pid| holds(*pid, &sockets))?;
    let name = fs_err::read_to_string(format!("/proc/{found}/comm")).ok()?;
    (!FORWARDERS.contains(&name.trim())).then_some(found)
}

/// Programs that listen for a server elsewhere: in a container, on another machine, behind them.
#[cfg(target_os = "linux")]
const FORWARDERS: [&str; 12] = [
    "caddy",
    "conmon",
    "docker-proxy",
    "envoy",
    "haproxy",
    "nginx",
    "pasta",
    "rootlessport",
    "slirp4netns",
    "socat",
    "ssh",
    "traefik",
];

/// The socket of a line of `/proc/net/tcp` that listens on this port, as a link in `/proc/PID/fd`
/// names it. Fields (proc_pid_net(5)): number, local address:port in hex, remote one, state (0A:
/// listening), four more, then at index 9 the inode.
#[cfg(target_os = "linux")]
fn socket_of(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listens = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16) == Ok(port);
    listens.then(|| Some(format!("socket:[{}]", fields.get(9)?))).flatten()
}

#[cfg(target_os = "linux")]
fn holds(pid: u32, sockets: &[String]) -> bool {
    let Ok(files) = fs_err::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let links = files.filter_map(Result::ok).filter_map(|file| fs_err::read_link(file.path()).ok());
    links.into_iter().any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

/// As above, from `lsof`, which macOS has.
#[cfg(not(target_os = "linux"))]
pub fn listening(port: u16) -> Option<u32> {
    let arguments = ["-nP", "-t", "-sTCP:LISTEN", &format!("-iTCP:{port}")];
    let output = std::process::Command::new("/usr/sbin/lsof").args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok()?.lines().filter_map(|line| line.trim().parse().ok()).min()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(listening(listener.local_addr().unwrap().port()), Some(std::process::id()));
    }

    #[test]
    fn a_connection_is_no_listener() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0";
        assert_eq!(socket_of(line, 8080).as_deref(), Some("socket:[4711]"));
        assert_eq!(socket_of(&line.replace(" 0A ", " 01 "), 8080), None);
        assert_eq!(socket_of(line, 80), None);
        assert_eq!(socket_of("", 80), None);
    }
}
