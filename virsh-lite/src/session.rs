//! What lasts from one command to the next: options, connection and output.
//!
//! Does not know the commands.

use std::time::Instant;

use berth_schemas::domain::{self, DomainStatus, ListIn, ListOut, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::again::Pauses;
use crate::client::Client;
use crate::connect::{self, Address};
use crate::error::{CallError, Failure};
use crate::options::Options;
use crate::output::Output;
use crate::parse::{Args, Call};
use crate::{cmd, globs};

/// The state of one run of the program.
pub struct Session {
    /// The global options.
    pub options: Options,
    /// Where output goes.
    pub out: Output,
    /// Whether commands come from a person.
    pub interactive: bool,
    /// Whether the present command prints JSON.
    pub json: bool,
    /// Set by `quit`.
    pub done: bool,
    /// Whether the present command's output is to end as it is, without a blank line.
    pub exact: bool,
    client: Option<Client>,
}

/// A domain as the daemon is asked for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainRef {
    /// Its name.
    pub name: String,
    /// Its UUID, where it was looked up.
    pub uuid: Option<String>,
    /// What the user typed.
    typed: String,
}

impl DomainRef {
    /// What the daemon has answered about what the user typed.
    pub fn found(status: DomainStatus, typed: &str) -> Self {
        Self { name: status.name, uuid: Some(status.uuid), typed: typed.to_owned() }
    }
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(options: Options) -> Self {
        let out = Output::new(options.quiet, options.log.as_deref());
        Self { options, out, interactive: false, json: false, done: false, exact: false, client: None }
    }

    /// Runs commands one after the other; whether the last one went well.
    pub fn run_all(&mut self, calls: &[Call]) -> bool {
        let mut good = true;
        for call in calls {
            good = self.run(call);
            if self.done {
                break;
            }
        }
        good
    }

    /// Runs one command and reports its failure.
    fn run(&mut self, call: &Call) -> bool {
        let start = Instant::now();
        if call.command.connects
            && !call.help
            && let Err(failure) = self.connect()
        {
            self.out.fail(&failure);
            return false;
        }
        self.exact = false;
        self.json = self.options.json || call.args.has("json");
        let result = self.dispatch(call);
        if let Err(failure) = &result {
            self.out.fail(failure);
        }
        let quits = matches!(call.command.name, "quit" | "exit") && !call.help;
        if !quits && !call.command.hidden && !self.exact {
            if self.options.timing {
                self.out.print(&format!("\n(Time: {:.3} ms)\n\n", start.elapsed().as_secs_f64() * 1e3));
            } else if !self.json || call.command.json.is_none() {
                self.out.extra("\n");
            }
        }
        self.out.flush();
        result.is_ok()
    }

    fn dispatch(&mut self, call: &Call) -> Result<(), Failure> {
        if call.help {
            let text = cmd::help::of_command(call.command);
            self.out.print(&text);
            return Ok(());
        }
        for option in call.command.options.iter().filter(|o| o.required) {
            if call.args.list(option.name).any(str::is_empty) {
                let name = option.name;
                return Err(Failure::line(format!(
                    "Failed to get option '{name}': Option argument is empty"
                )));
            }
        }
        for option in call.command.options {
            if let (Some(reason), true) = (option.refused, call.args.has(option.name)) {
                let line = format!(
                    "option --{} of command '{}' is not supported: {reason}",
                    option.name, call.command.name
                );
                return Err(Failure::line(line));
            }
        }
        (call.command.run)(self, &call.args)
    }

    /// The URI in use, or to be used.
    pub fn address(&self) -> Result<Address, Failure> {
        connect::parse(&self.options.uri.clone().unwrap_or_else(connect::default_uri))
    }

    /// Connects unless connected.
    pub fn connect(&mut self) -> Result<&mut Client, Failure> {
        if self.client.is_none() {
            self.client = Some(self.another_connection()?);
        }
        self.client.as_mut().ok_or_else(|| Failure::line("not connected"))
    }

    /// A connection of its own, for a call that occupies one.
    pub fn another_connection(&self) -> Result<Client, Failure> {
        connect::open(&self.address()?, &self.options)
    }

    /// Forgets the connection.
    pub fn disconnect(&mut self) {
        self.client = None;
    }

    /// Calls a method of `io.berth.Domain`.
    pub fn call<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: Method,
        parameters: &In,
    ) -> Result<Out, CallError> {
        self.call_named(method.name(), parameters)
    }

    /// Calls a method by its full name.
    pub fn call_named<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &In,
    ) -> Result<Out, CallError> {
        self.with_client(|client| client.call(method, parameters))
    }

    /// Uses the connection, and forgets it when it turns out to be lost: the next command makes another one.
    fn with_client<T>(
        &mut self,
        act: impl FnOnce(&mut Client) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let client = self.client.as_mut().ok_or_else(|| CallError::lost("not connected"))?;
        let result = act(client);
        if matches!(result, Err(CallError::Lost { .. })) {
            self.client = None;
        }
        result
    }

    /// Asks something until the daemon answers or the time is over: connects anew where the connection is lost, as the
    /// daemon may only have been restarted. What is asked must bear being asked twice.
    pub fn insist<T>(
        &mut self,
        deadline: Instant,
        mut ask: impl FnMut(&mut Self) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let mut pauses = Pauses::until(deadline);
        let result = loop {
            match self.attempt(deadline, &mut ask) {
                Err(CallError::Lost { .. }) if pauses.pause() => {}
                result => break result,
            }
        };
        if self.client.is_some() {
            self.with_client(|client| client.set_deadline(None))?;
        }
        result
    }

    fn attempt<T>(
        &mut self,
        deadline: Instant,
        ask: &mut impl FnMut(&mut Self) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        self.connect().map_err(|failure| failure.lost())?;
        self.with_client(|client| client.set_deadline(Some(deadline)))?;
        ask(self)
    }

    /// Calls a method that answers any number of times.
    pub fn call_more<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &In,
        each: impl FnMut(Out) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        self.with_client(|client| client.call_more(method, parameters, each))
    }

    /// All domains, by name. A call has at least one reply: that there is no domain comes as an error.
    pub fn all_domains(&mut self) -> Result<Vec<DomainStatus>, CallError> {
        let mut domains = Vec::new();
        let result = self.call_more(Method::List.name(), &ListIn::default(), |out: ListOut| {
            domains.push(out.domain);
            Ok(())
        });
        match result {
            Ok(()) | Err(CallError::Domain(domain::Error::NoSuchDomain { .. })) => Ok(domains),
            Err(error) => Err(error),
        }
    }

    /// The state of one domain.
    pub fn status(&mut self, domain: &DomainRef) -> Result<DomainStatus, Failure> {
        self.status_or_error(domain).map_err(|error| {
            self.no_domain_or(domain, &error, |e, r| {
                let (message, _) = e.message(r);
                Failure::line(message)
            })
        })
    }

    /// The state of one domain, or what the daemon says instead.
    pub fn status_or_error(&mut self, domain: &DomainRef) -> Result<DomainStatus, CallError> {
        let parameters = ListIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
        self.call::<_, ListOut>(Method::List, &parameters).map(|out| out.domain)
    }

    /// Finds the domain that a word means: by id where one is active, by uuid, else by name. A name is not looked up:
    /// the call that follows does it.
    pub fn domain(&mut self, typed: &str) -> Result<DomainRef, Failure> {
        if let Ok(id) = typed.parse::<i64>()
            && let Some(found) = self.look_up(typed, ListIn { id: Some(id), ..ListIn::default() })?
        {
            return Ok(found);
        }
        if let Some(uuid) = as_uuid(typed)
            && let Some(found) = self.look_up(typed, ListIn { uuid: Some(uuid), ..ListIn::default() })?
        {
            return Ok(found);
        }
        Ok(DomainRef { name: typed.to_owned(), uuid: None, typed: typed.to_owned() })
    }

    /// Finds a domain by id or uuid; that there is none is no error.
    pub fn look_up(&mut self, typed: &str, by: ListIn) -> Result<Option<DomainRef>, Failure> {
        match self.call::<_, ListOut>(Method::List, &by) {
            Ok(out) => Ok(Some(DomainRef::found(out.domain, typed))),
            Err(CallError::Domain(domain::Error::NoSuchDomain { .. })) => Ok(None),
            Err(error) => {
                Err(error.because(format!("failed to get domain '{typed}'"), self.options.readonly))
            }
        }
    }

    /// The words of an argument that takes several domains, with patterns replaced by the names they match.
    pub fn expand(&mut self, args: &Args) -> Result<Vec<String>, Failure> {
        let mut words = Vec::new();
        for word in args.list("domain") {
            if !globs::is_glob(word) {
                words.push(word.to_owned());
                continue;
            }
            let all =
                self.all_domains().map_err(|e| e.because("Failed to list domains", self.options.readonly))?;
            let before = words.len();
            words.extend(all.into_iter().map(|d| d.name).filter(|name| globs::matches(word, name)));
            if words.len() == before {
                return Err(Failure::line(format!("no domain matches '{word}'")));
            }
        }
        Ok(words)
    }

    /// Does something with each domain that the arguments name; goes on after a failure, and fails in the end.
    pub fn each_domain(
        &mut self,
        args: &Args,
        mut act: impl FnMut(&mut Self, &DomainRef) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut result = Ok(());
        for word in self.expand(args)? {
            let done = self.domain(&word).and_then(|domain| act(self, &domain));
            if let Err(failure) = done {
                self.out.fail(&failure);
                result = Err(Failure::silent());
            }
        }
        result
    }

    /// The failure of a call about a domain.
    pub fn failure(&self, what: &str, domain: &DomainRef, error: &CallError) -> Failure {
        self.no_domain_or(domain, error, |error, readonly| error.because(what, readonly))
    }

    fn no_domain_or(
        &self,
        domain: &DomainRef,
        error: &CallError,
        otherwise: impl FnOnce(&CallError, bool) -> Failure,
    ) -> Failure {
        match error {
            CallError::Domain(domain::Error::NoSuchDomain { .. }) => {
                Failure::line(format!("failed to get domain '{}'", domain.typed))
            }
            error => otherwise(error, self.options.readonly),
        }
    }
}

/// The word in the form of a UUID, if it is one: 32 hex digits, with hyphens or without.
pub fn as_uuid(word: &str) -> Option<String> {
    let digits: String = word.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    Some([part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-"))
}
