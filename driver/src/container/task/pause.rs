//! Suspend and resume.
//!
//! Does not know how processes are stopped; that is the freezer's. A change is under way on a thread, and the task goes
//! on meanwhile: an end does not wait for it.

use berth_schemas::domain::{EventKind, Reason};

use super::{Answer, Event, Reply, Task, answer};
use crate::container::lifecycle::{Fact, Phase};
use crate::engine::publish::{Draft, blocking};
use crate::failure::Failure;
use crate::host::freezer;

/// A suspend or resume that is over.
#[derive(Debug)]
pub struct Changed {
    /// Suspend.
    pause: bool,
    /// Of which run.
    run: u64,
    /// How often that had restarted by itself when it began.
    restarts: i64,
    /// Why it did not work, if it did not.
    problem: Option<String>,
    reply: Reply,
}

impl Task {
    pub(super) fn begin_change(&mut self, pause: bool, reply: Reply) {
        let Some(active) = &self.active else { return };
        self.lifecycle = self.lifecycle.after(Fact::SwitchBegan);
        let (run, restarts) = (self.run, active.run.restarts);
        let (groups, init) = (self.groups(), active.run.init_pid.and_then(|pid| i32::try_from(pid).ok()));
        let mailbox = self.entry.mailbox().clone();
        tokio::spawn(async move {
            let done = blocking(move || {
                let done = if pause {
                    freezer::freeze(&groups, init, freezer::PATIENCE)
                } else {
                    freezer::thaw(&groups, init)
                };
                Ok(done.err().map(|e| e.to_string()))
            })
            .await;
            crate::killpoint::reached(if pause { "frozen" } else { "thawed" });
            let problem = done.unwrap_or_else(|e| Some(e.to_string()));
            // The mailbox is open as long as the domain is active; whoever asked sees an error if it is not.
            drop(
                mailbox
                    .send(Event::Changed(Box::new(Changed { pause, run, restarts, problem, reply })))
                    .await,
            );
        });
    }

    pub(super) async fn changed(&mut self, changed: Changed) {
        let Changed { pause, run, restarts, problem, reply } = changed;
        let same = self.active.as_ref().is_some_and(|a| a.run.restarts == restarts) && run == self.run;
        if self.lifecycle.phase() != Phase::Switching || run != self.run {
            let message = format!("cannot {} domain '{}': it ended meanwhile", verb(pause), self.entry.name);
            answer(reply, Err(Failure::Failed(message)));
            return;
        }
        if pause && !same && problem.is_none() {
            // What stands is another container than the one that was meant.
            let groups = self.groups();
            let released = blocking(move || {
                freezer::release(&groups.limited);
                Ok(())
            });
            drop(released.await);
        }
        let problem = problem.or_else(|| (pause && !same).then(|| "it restarted meanwhile".to_owned()));
        // One that has frozen itself was not paused, and is not if it does not go on.
        let paused = same && if problem.is_none() { pause } else { self.reason == Reason::User };
        self.lifecycle = self.lifecycle.after(if paused { Fact::Paused } else { Fact::Resumed });
        match problem {
            None => {
                let (reason, draft) = told(pause);
                // A restart meanwhile has given its own reason.
                if same {
                    self.reason = reason;
                    self.publish(vec![draft]).await;
                }
                answer(reply, Ok(Answer::Done));
            }
            Some(problem) => {
                let name = &self.entry.name;
                let message = format!("cannot {} domain '{name}': {problem}", verb(pause));
                answer(reply, Err(Failure::Failed(message)));
            }
        }
        self.unpark().await;
    }

    /// Whether the container runs for all that anybody was told, and has frozen itself.
    pub(super) async fn froze_itself(&self) -> bool {
        if self.lifecycle.phase() != Phase::Running {
            return false;
        }
        let Some(active) = &self.active else { return false };
        let (groups, init) = (self.groups(), active.run.init_pid.and_then(|pid| i32::try_from(pid).ok()));
        blocking(move || Ok(freezer::froze_itself(&groups, init))).await.unwrap_or_default()
    }

    /// A daemon that died between the change and its being told left the telling to the next one.
    pub(super) async fn found_changed(&mut self, paused: bool) {
        if paused == (self.reason == Reason::User) {
            return;
        }
        self.lifecycle = self.lifecycle.after(if paused { Fact::Paused } else { Fact::Resumed });
        let (reason, draft) = told(paused);
        self.reason = reason;
        self.publish(vec![draft]).await;
    }
}

fn verb(pause: bool) -> &'static str {
    if pause { "suspend" } else { "resume" }
}

fn told(pause: bool) -> (Reason, Draft) {
    if pause {
        (Reason::User, Draft::new(EventKind::Suspended, "paused"))
    } else {
        (Reason::Unpaused, Draft::new(EventKind::Resumed, "unpaused"))
    }
}
