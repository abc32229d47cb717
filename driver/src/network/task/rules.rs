//! The rules of a network while it runs: what others change in them is made again.
//!
//! Does not know what the rules are, nor when a network starts or ends.

use std::time::{Duration, Instant};

use super::{Event, GOOD_LIFE, LONGEST_WAIT, Task};
use crate::network::making::Made;

/// The least time until rules that are changed again are made again.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What is known of them.
#[derive(Debug)]
pub(super) struct Rules {
    /// As they were made.
    made: Made,
    /// When they had to be made again.
    since: Instant,
    /// How long the next time of that waits.
    wait: Duration,
    /// Whether that is on its way.
    due: bool,
    /// Whether those about what guests ask by DHCP are to be made.
    guard_due: bool,
}

impl Rules {
    /// Of a network that has made none yet.
    pub(super) fn new() -> Self {
        Self {
            made: Made::default(),
            since: Instant::now(),
            wait: Duration::ZERO,
            due: false,
            guard_due: false,
        }
    }

    /// What is shared with whoever makes them.
    pub(super) fn made(&self) -> Made {
        self.made.clone()
    }
}

impl Task {
    /// Somebody has touched the rules, and it may have been us. Those of somebody else are replaced, the later the more
    /// often that happens.
    pub(super) async fn rules_touched(&mut self) {
        if self.rules_are_there().await || self.rules.due {
            return;
        }
        if self.rules.since.elapsed() >= GOOD_LIFE.max(2 * self.rules.wait) {
            self.rules.wait = Duration::ZERO;
        }
        let (name, wait) = (&self.entry.name, self.rules.wait);
        if wait.is_zero() {
            tracing::warn!("network '{name}': somebody else has changed its rules: they are made again");
            self.make_rules().await;
        } else {
            let seconds = wait.as_secs();
            tracing::warn!(
                "network '{name}': somebody else has changed its rules again: they are made again in {seconds} s"
            );
            self.make_rules_later();
        }
    }

    /// Somebody asks for them, or the time has come to make them again.
    pub(super) async fn make_due_rules(&mut self, asked: bool) {
        if !asked {
            self.rules.due = false;
            if self.rules_are_there().await {
                return;
            }
        }
        if self.live.is_some() {
            self.make_rules().await;
        }
    }

    /// Whether nothing has to be done about them.
    async fn rules_are_there(&self) -> bool {
        let Some(plan) = self.plan() else { return true };
        plan.check_rules().await.unwrap_or_else(|e| {
            tracing::error!("network '{}': {e}", self.entry.name);
            false
        })
    }

    /// Makes the rules, and goes on trying.
    pub(super) async fn make_rules(&mut self) {
        let Some(plan) = self.plan() else { return };
        let made = plan.open_doors().await;
        self.rules.since = Instant::now();
        if let Err(e) = made {
            tracing::error!("network '{}': {e}", self.entry.name);
            self.make_rules_later();
        } else if self.rules.wait.is_zero() {
            self.rules.wait = FIRST_WAIT;
        }
        self.guard_soon();
    }

    /// Has the rules about what guests ask by DHCP made, once for all ports that change until then. No start waits for them.
    pub(super) fn guard_soon(&mut self) {
        if std::mem::replace(&mut self.rules.guard_due, true) {
            return;
        }
        self.rules.made.expect_guard();
        let mailbox = self.entry.mailbox().clone();
        tokio::spawn(async move {
            // The network is gone.
            let _ = mailbox.send(Event::Guard).await;
        });
    }

    pub(super) async fn guard(&mut self) {
        self.rules.guard_due = false;
        if let Some(plan) = self.plan() {
            plan.guard().await;
        }
    }

    fn make_rules_later(&mut self) {
        if std::mem::replace(&mut self.rules.due, true) {
            return;
        }
        let (mailbox, wait) = (self.entry.mailbox().clone(), self.rules.wait.max(FIRST_WAIT));
        self.rules.wait = (wait * 2).min(LONGEST_WAIT);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // The network is gone.
            let _ = mailbox.send(Event::MakeRules { asked: false }).await;
        });
    }
}
