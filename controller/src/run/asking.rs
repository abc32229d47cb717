//! How an init can be asked to end: a pure choice from what the kernel knows about it.

/// What is known about init.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Init {
    /// Signals with a handler: bit N-1 is signal N.
    pub caught: u64,
    /// Signals it has blocked, to read or wait for them.
    pub blocked: u64,
    /// Where its program is, inside.
    pub program: String,
    /// The name it was started by: its zeroth argument.
    pub name: String,
}

/// A signal with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Number.
    pub signal: i32,
    /// Name, as it is told.
    pub name: &'static str,
}

const fn ask(signal: i32, name: &'static str) -> Option<Ask> {
    Some(Ask { signal, name })
}

impl Init {
    /// From the text of /proc/PID/status (proc_pid_status(5)), the link exe and the text of cmdline.
    pub fn from_proc(status: &str, program: &str, arguments: &str) -> Self {
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let mask = |name: &str| field(name).and_then(|m| u64::from_str_radix(m, 16).ok()).unwrap_or(0);
        Self {
            caught: mask("SigCgt:"),
            blocked: mask("SigBlk:"),
            program: program.to_owned(),
            name: arguments.split('\0').next().unwrap_or_default().to_owned(),
        }
    }

    fn handles(&self, signal: i32) -> bool {
        (self.caught | self.blocked) & (1 << (signal - 1)) != 0
    }

    /// Busybox is one program with many names, and a script with the name of init is run by its shell.
    fn is_busybox_init(&self) -> bool {
        let last = |path: &str| path.rsplit('/').next().map(str::to_owned);
        let program = last(self.program.trim_end_matches(" (deleted)"));
        let name = last(&self.name);
        program.as_deref() == Some("busybox") && matches!(name.as_deref(), Some("init" | "linuxrc"))
    }

    /// The signal to send, if this init understands one.
    ///
    /// SIGRTMIN is 34 for every C library. Sources: systemd(1), "Signals"; busybox init/init.c; sysvinit init(8).
    pub fn choose(&self, restart: bool) -> Option<Ask> {
        // One that blocks everything waits for nothing in particular: it passes signals on (tini, dumb-init).
        let forwards = self.blocked & (1 << 63) != 0;
        match (self.handles(37) && !forwards, self.is_busybox_init()) {
            (true, _) if restart => ask(39, "SIGRTMIN+5"),
            (true, _) => ask(37, "SIGRTMIN+3"),
            (_, true) if restart => ask(15, "SIGTERM"),
            (_, true) => ask(12, "SIGUSR2"),
            _ if !forwards && self.handles(30) => match restart {
                true => self.handles(2).then_some(()).and(ask(2, "SIGINT")),
                false => ask(30, "SIGPWR"),
            },
            _ if !restart && self.handles(15) => ask(15, "SIGTERM"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn name(init: &Init, restart: bool) -> Option<&'static str> {
        init.choose(restart).map(|a| a.name)
    }

    fn bits(signals: &[u32]) -> u64 {
        signals.iter().fold(0, |m, s| m | 1 << (s - 1))
    }

    #[test]
    fn each_init_is_asked_in_its_way() {
        let systemd = Init { blocked: bits(&[1, 15, 17, 30, 34, 35, 36, 37, 38, 39]), ..Init::default() };
        assert_eq!(name(&systemd, false), Some("SIGRTMIN+3"));
        assert_eq!(name(&systemd, true), Some("SIGRTMIN+5"));
        let busybox = Init { program: "/bin/busybox".into(), name: "init".into(), ..Init::default() };
        assert_eq!(name(&busybox, false), Some("SIGUSR2"));
        assert_eq!(name(&busybox, true), Some("SIGTERM"));
        let sysv = Init { caught: bits(&[1, 2, 30]), ..Init::default() };
        assert_eq!(name(&sysv, false), Some("SIGPWR"));
        assert_eq!(name(&sysv, true), Some("SIGINT"));
        let server = Init { caught: bits(&[15]), ..Init::default() };
        assert_eq!(name(&server, false), Some("SIGTERM"));
        assert_eq!(name(&server, true), None);
        let tini = Init { blocked: u64::MAX, ..Init::default() };
        assert_eq!(name(&tini, false), Some("SIGTERM"));
        assert_eq!(name(&Init::default(), false), None);
    }

    #[test]
    fn the_status_file_is_read() {
        let text = "Name:\tinit\nSigBlk:\t0000000000000000\nSigCgt:\t0000000000004002\n";
        let init = Init::from_proc(text, "/bin/busybox (deleted)", "/sbin/init\0");
        assert_eq!(init.caught, 0x4002);
        assert_eq!(name(&init, false), Some("SIGUSR2"));
        let script = Init::from_proc(text, "/bin/busybox", "/bin/sh\0/init\0");
        assert_eq!(name(&script, false), Some("SIGTERM"));
    }
}
