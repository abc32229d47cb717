//! The form of a command: its name, options and help, as data.
//!
//! The parser, `help`, the man page and the completions all read these values; nothing here knows what a command does
//! or which commands there are (that is `cmd::ALL`).

use crate::error::Failure;
use crate::parse::Args;
use crate::session::Session;

/// The groups that `help` lists commands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What changes domains.
    Domain,
    /// What looks at domains.
    Monitor,
    /// What waits for events.
    Events,
    /// What is about networks.
    Networks,
    /// What is about the host.
    Host,
    /// What is about this program.
    Shell,
}

impl Group {
    /// All groups in the order of `help`.
    pub const ALL: &'static [Self] =
        &[Self::Domain, Self::Monitor, Self::Events, Self::Networks, Self::Host, Self::Shell];

    /// Heading of the group.
    pub fn title(self) -> &'static str {
        match self {
            Self::Domain => "Domain Management",
            Self::Monitor => "Domain Monitoring",
            Self::Events => "Domain Events",
            Self::Networks => "Networking",
            Self::Host => "Host and Hypervisor",
            Self::Shell => "Virsh itself",
        }
    }

    /// The word that `help` takes for it.
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Monitor => "monitor",
            Self::Events => "events",
            Self::Networks => "network",
            Self::Host => "host",
            Self::Shell => "virsh",
        }
    }
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Flag,
    /// One string.
    Text,
    /// One number.
    Number,
    /// Any number of strings.
    List,
}

/// What completes the value of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Nothing is known.
    Any,
    /// Names of domains.
    Domains,
    /// Names of active domains.
    ActiveDomains,
    /// Names of inactive domains.
    InactiveDomains,
    /// Names of networks.
    Networks,
    /// Names of active networks.
    ActiveNetworks,
    /// Names of inactive networks.
    InactiveNetworks,
    /// UUIDs of domains.
    DomainUuids,
    /// UUIDs of networks.
    NetworkUuids,
    /// Interfaces of the domain, each by its name on the host, or else by its hardware address.
    Interfaces,
    /// Interfaces of the domain by the names that their addresses are told with: inside or on the host.
    InterfaceNames,
    /// Hardware addresses of the domain's interfaces, of one type where one is given.
    Macs,
    /// Targets of the domain's disks.
    Disks,
    /// The domain's consoles.
    Consoles,
    /// Numbers of the domain's CPUs.
    Vcpus,
    /// Namespaces of the domain's metadata.
    Namespaces,
    /// What an interface of the type that is given can be attached to.
    Sources,
    /// Hardware addresses that the network has leased an address to.
    LeaseMacs,
    /// Files.
    Files,
    /// Names of commands.
    Commands,
    /// One of these words.
    Words(&'static [&'static str]),
}

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// Name without the dashes.
    pub name: &'static str,
    /// The name that it had in older versions of virsh, where scripts use that.
    pub old_name: Option<&'static str>,
    /// What it takes.
    pub kind: Kind,
    /// One line of help.
    pub help: &'static str,
    /// Must be given.
    pub required: bool,
    /// May be given without its name.
    pub positional: bool,
    /// What completes it.
    pub values: Values,
    /// virsh has it and we refuse it, for this reason.
    pub refused: Option<&'static str>,
}

impl Opt {
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            old_name: None,
            kind,
            help,
            required: false,
            positional: false,
            values: Values::Any,
            refused: None,
        }
    }

    /// An option without a value.
    pub const fn flag(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Flag, help)
    }

    /// An option with a value that must be named.
    pub const fn text(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Text, help)
    }

    /// An option with a number that must be named.
    pub const fn number(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Number, help)
    }

    /// An option with any number of values, named or not.
    pub const fn list(name: &'static str, help: &'static str) -> Self {
        Self { positional: true, ..Self::new(name, Kind::List, help) }
    }

    /// The same, but its value may stand without its name.
    pub const fn positional(self) -> Self {
        Self { positional: true, ..self }
    }

    /// The same, but it must be given.
    pub const fn required(self) -> Self {
        Self { required: true, positional: true, ..self }
    }

    /// The same with something to complete it from.
    pub const fn from(self, values: Values) -> Self {
        Self { values, ..self }
    }

    /// The same under another name, too, which is shown nowhere.
    pub const fn once(self, old_name: &'static str) -> Self {
        Self { old_name: Some(old_name), ..self }
    }

    /// The same, but refused when used.
    pub const fn refused(self, reason: &'static str) -> Self {
        Self { refused: Some(reason), ..self }
    }

    /// The domain of a command that takes one.
    pub const fn domain() -> Self {
        Self::text("domain", "domain name, id or uuid").required().from(Values::Domains)
    }

    /// The domains of a command that takes several.
    pub const fn domains(values: Values) -> Self {
        Self::list("domain", "domain names, ids, uuids or patterns such as 'web*'").required().from(values)
    }

    /// What stands for its value in help.
    fn value(&self) -> &'static str {
        if self.kind == Kind::Number { "<number>" } else { "<string>" }
    }

    /// The value's name in the message about a missing one.
    pub fn expected(&self) -> &'static str {
        if self.kind == Kind::Number { "number" } else { "string" }
    }

    /// The option in a synopsis.
    pub fn synopsis(&self) -> String {
        let (name, value) = (self.name, self.value());
        match (self.kind, self.required) {
            (Kind::Flag, _) => format!("[--{name}]"),
            (Kind::List, true) => format!("<{name}>..."),
            (Kind::List, false) if self.name == "string" => "[<string>]...".into(),
            (Kind::List, false) => format!("[[--{name}] {value}]..."),
            (_, true) => format!("<{name}>"),
            (_, false) => format!("[--{name} {value}]"),
        }
    }

    /// The option in a list of options.
    pub fn label(&self) -> String {
        let (name, value) = (self.name, self.value());
        match (self.kind, self.positional) {
            (Kind::Flag, _) => format!("--{name}"),
            (Kind::List, _) if self.name == "string" => "<string>".into(),
            (Kind::List, _) => format!("[--{name}] {value}..."),
            (_, true) if self.required => format!("[--{name}] {value}"),
            (_, _) => format!("--{name} {value}"),
        }
    }
}

/// What runs a command.
pub type Run = fn(&mut Session, &Args) -> Result<(), Failure>;

/// One command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// A few words on it.
    pub summary: &'static str,
    /// Sentences on it; may be empty.
    pub description: &'static str,
    /// Its options, in the order in which values without a name are taken.
    pub options: &'static [Opt],
    /// What it prints with `--json`; `None` where it prints nothing worth it.
    pub json: Option<&'static str>,
    /// Whether it needs the daemon.
    pub connects: bool,
    /// Whether help, man page and completions leave it out.
    pub hidden: bool,
    /// What it does.
    pub run: Run,
}

impl Command {
    /// A command that needs the daemon, with nothing else said.
    pub const fn new(name: &'static str, group: Group, summary: &'static str, run: Run) -> Self {
        Self {
            name,
            group,
            summary,
            description: "",
            options: &[],
            json: None,
            connects: true,
            hidden: false,
            run,
        }
    }

    /// The same with sentences.
    pub const fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// The same with options.
    pub const fn options(self, options: &'static [Opt]) -> Self {
        Self { options, ..self }
    }

    /// The same with JSON output, described.
    pub const fn json(self, json: &'static str) -> Self {
        Self { json: Some(json), ..self }
    }

    /// The same without a connection.
    pub const fn offline(self) -> Self {
        Self { connects: false, ..self }
    }

    /// The same, not shown.
    pub const fn hidden(self) -> Self {
        Self { hidden: true, ..self }
    }

    /// Its options, `--json` included.
    pub fn all_options(&self) -> impl Iterator<Item = &'static Opt> {
        self.options.iter().chain(self.json.is_some().then_some(&JSON))
    }

    /// The option of that name, which may be an old one.
    pub fn option(&self, name: &str) -> Option<&'static Opt> {
        self.all_options().find(|o| o.name == name || o.old_name == Some(name))
    }

    /// The line under SYNOPSIS.
    pub fn synopsis(&self) -> String {
        let mut line = self.name.to_owned();
        for option in self.all_options().filter(|o| o.refused.is_none()) {
            line.push(' ');
            line.push_str(&option.synopsis());
        }
        line
    }
}

/// The option of every command that prints data.
static JSON: Opt = Opt::flag("json", "print JSON");

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
