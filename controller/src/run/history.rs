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
        let blank = blank(ControllerEventKind::Restarted);
        self.add(ControllerEvent { exit: Some(exit), init_pid: Some(i64::from(init)), ..blank })
    }

    /// Adds "ended".
    pub fn ended(
        &mut self,
        exit: ControllerExit,
        residue: Vec<String>,
        failure: Option<StepFailure>,
    ) -> ControllerEvent {
        let blank = blank(ControllerEventKind::Ended);
        self.add(ControllerEvent { exit: Some(exit), residue, failure, ..blank })
    }

    /// Adds "oomKilled".
    pub fn oom_killed(&mut self, count: i64) -> ControllerEvent {
        self.add(ControllerEvent { count: Some(count), ..blank(ControllerEventKind::OomKilled) })
    }

    /// Adds "ready".
    pub fn ready(&mut self) -> ControllerEvent {
        self.add(blank(ControllerEventKind::Ready))
    }

    fn add(&mut self, mut event: ControllerEvent) -> ControllerEvent {
        self.sequence += 1;
        event.sequence = self.sequence;
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

fn blank(kind: ControllerEventKind) -> ControllerEvent {
    ControllerEvent {
        sequence: 0,
        kind,
        exit: None,
        count: None,
        init_pid: None,
        residue: Vec::new(),
        failure: None,
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
