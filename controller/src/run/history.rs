//! What happened, numbered, for those who ask later.

use std::collections::VecDeque;

use berth_schemas::controller::{ControllerEvent, ControllerEventKind, ControllerExit, StepFailure};

/// So many are remembered.
const MOST: usize = 64;

/// The last events.
#[derive(Debug, Default)]
pub struct History {
    sequence: i64,
    events: VecDeque<ControllerEvent>,
}

impl History {
    /// Number of the last event; 0 before the first.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// Adds "restarted".
    pub fn restarted(&mut self, exit: ControllerExit, init: i32) -> ControllerEvent {
        self.add(ControllerEventKind::Restarted, exit, Some(i64::from(init)), Vec::new(), None)
    }

    /// Adds "ended".
    pub fn ended(
        &mut self,
        exit: ControllerExit,
        residue: Vec<String>,
        failure: Option<StepFailure>,
    ) -> ControllerEvent {
        self.add(ControllerEventKind::Ended, exit, None, residue, failure)
    }

    fn add(
        &mut self,
        kind: ControllerEventKind,
        exit: ControllerExit,
        init_pid: Option<i64>,
        residue: Vec<String>,
        failure: Option<StepFailure>,
    ) -> ControllerEvent {
        self.sequence += 1;
        let event = ControllerEvent { sequence: self.sequence, kind, exit, init_pid, residue, failure };
        if self.events.len() == MOST {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }

    /// Those after number `since` that are remembered.
    pub fn since(&self, since: i64) -> impl Iterator<Item = &ControllerEvent> {
        self.events.iter().filter(move |e| e.sequence > since)
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::run::policy::End;

    #[test]
    fn the_last_ones_are_remembered() {
        let mut history = History::default();
        for n in 0..100 {
            history.restarted(End::Reboot.exit(n), 1);
        }
        assert_eq!(history.sequence(), 100);
        assert_eq!(history.since(0).count(), 64);
        assert_eq!(history.since(98).map(|e| e.sequence).collect::<Vec<_>>(), [99, 100]);
    }
}
