//! Scopes: units around processes that systemd has not started itself.
//!
//! A scope is there as long as something is in it: its end is that of the last process and group. It is delegated: what
//! is below its control group is ours, and nothing else. Stopping it (`systemctl stop`, `machinectl terminate`, the
//! end of the host) sends all its processes a signal that only a controller acts on. Does not know machines. Source:
//! org.freedesktop.systemd1(5).

use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant};

use zbus::export::futures_core::Stream;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::names::ScopeName;

/// How long systemd may take to be done with the scope of the run before.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a container may take to shut down when its scope is stopped; what is left then is killed.
const STOP: Duration = Duration::from_secs(90);

/// SIGURG: nobody who does not know better acts on it, so it can be sent to everything in a container.
const STOP_SIGNAL: i32 = 23;

/// What stops containers in order, before their scopes are stopped with the host.
const GUESTS: &str = "berth-guests.service";

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// The bus or systemd refused.
    #[error("{0}")]
    Bus(#[from] zbus::Error),
    /// It was not made.
    #[error("the job of '{unit}' ended with '{result}'")]
    Job {
        /// The scope.
        unit: String,
        /// What systemd says.
        result: String,
    },
    /// There is one already.
    #[error("'{0}' is there already, and is another's")]
    Exists(String),
    /// The bus or systemd does not come to an end.
    #[error("it was not made within {seconds} s", seconds = super::PATIENCE.as_secs())]
    TimedOut,
    /// Another start has waited in vain.
    #[error("systemd did not answer a moment ago")]
    NotAsked,
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;

    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.systemd1")]
trait Properties {
    fn get(&self, interface: &str, property: &str) -> zbus::Result<OwnedVariant>;
}

/// Makes a scope with one process in it and answers, when it is there, where its control group is: a path from the
/// root of the tree on.
pub async fn make(
    bus: &zbus::Connection,
    name: &ScopeName,
    domain: &str,
    pid: i32,
) -> Result<String, ScopeError> {
    let manager = ManagerProxy::new(bus).await?;
    // Before the question, so that no answer is missed.
    let jobs = manager.receive_job_removed().await?;
    match finished(jobs, name, ask(&manager, name, domain, pid)).await?.as_str() {
        "done" => group(bus, &manager, name).await,
        result => Err(ScopeError::Job { unit: name.unit.clone(), result: result.to_owned() }),
    }
}

/// Waits for the answer to `asking`, which is a job, and for the end of that job, and answers its result. News are taken
/// all the time: a connection with a full queue of them has no answers either, for nobody.
async fn finished(
    jobs: JobRemovedStream,
    name: &ScopeName,
    asking: impl Future<Output = Result<OwnedObjectPath, ScopeError>>,
) -> Result<String, ScopeError> {
    let (mut jobs, mut asking) = (pin!(jobs), pin!(asking));
    let (mut job, mut last) = (None, None);
    loop {
        tokio::select! {
            asked = &mut asking, if job.is_none() => job = Some(asked?),
            signal = poll_fn(|context| jobs.as_mut().poll_next(context)) => {
                let Some(signal) = signal else {
                    return Err(zbus::Error::Failure("the connection to the bus ended".into()).into());
                };
                let news = signal.args()?;
                if news.unit == name.unit {
                    last = Some((news.job.clone(), news.result.clone()));
                }
            }
        }
        // The news may be here before the answer.
        if let (Some(job), Some((ended, result))) = (&job, &last)
            && job == ended
        {
            return Ok(result.clone());
        }
    }
}

/// Asks until systemd is done with the scope of the run before, which ends a moment after the last of its processes.
async fn ask(
    manager: &ManagerProxy<'_>,
    name: &ScopeName,
    domain: &str,
    pid: i32,
) -> Result<OwnedObjectPath, ScopeError> {
    let end = Instant::now() + PATIENCE;
    loop {
        match manager.start_transient_unit(&name.unit, "fail", &properties(name, domain, pid), &[]).await {
            Err(zbus::Error::MethodError(error, ..))
                if error.as_str() == "org.freedesktop.systemd1.UnitExists" =>
            {
                if Instant::now() > end {
                    return Err(ScopeError::Exists(name.unit.clone()));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return Ok(other?),
        }
    }
}

fn properties<'a>(name: &'a ScopeName, domain: &str, pid: i32) -> Vec<(&'static str, Variant<'a>)> {
    let usec = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    vec![
        ("Description", format!("Berth container {domain}").into()),
        ("Slice", name.slice.as_str().into()),
        ("PIDs", vec![pid.cast_unsigned()].into()),
        ("Delegate", true.into()),
        // Limits are the domain's, and its own groups have them.
        ("TasksMax", u64::MAX.into()),
        ("KillSignal", STOP_SIGNAL.into()),
        ("TimeoutStopUSec", usec(STOP).into()),
        ("CollectMode", "inactive-or-failed".into()),
        ("Before", vec![GUESTS].into()),
    ]
}

/// Where systemd has put it.
async fn group(
    bus: &zbus::Connection,
    manager: &ManagerProxy<'_>,
    name: &ScopeName,
) -> Result<String, ScopeError> {
    let unit = manager.get_unit(&name.unit).await?;
    let unit = PropertiesProxy::builder(bus).path(unit).build().await?;
    let group = unit.get("org.freedesktop.systemd1.Scope", "ControlGroup").await?;
    let group = String::try_from(group)?;
    // It becomes part of a path.
    if !group.starts_with('/') || group.split('/').any(|part| part == "..") {
        let odd = format!("the control group of '{}' is '{group}'", name.unit);
        return Err(zbus::Error::Failure(odd).into());
    }
    Ok(group)
}
