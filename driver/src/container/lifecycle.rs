//! Who may ask what when: a pure value, total over all phases and requests.
//!
//! ```text
//!            defined               start began            started
//!   Absent ----------> Shutoff ----------------> Starting --------> Running
//!     ^                 ^   |                      |                  |
//!     |   undefined     |   |     start failed     |     stop began   |
//!     +-----------------|---+ <--------------------+                  v
//!     |                 +---------------- stopped (persistent) --- Stopping
//!     +---------------------------------- stopped (transient) -------+
//! ```
//!
//! Active is also who is paused, and who is on the way to that or back:
//!
//! ```text
//!            change began              paused
//!   Running --------------> Switching ---------> Paused      stop began: Stopping, from each of them
//!      ^                    |  ^                   |
//!      +----- resumed ------+  +-- change began ---+
//! ```
//!
//! Does not know time, files, controllers or what a request carries.

/// Where a domain is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody knows it: not yet defined, or no longer.
    Absent,
    /// Defined and not active.
    Shutoff,
    /// Being set up.
    Starting,
    /// Active.
    Running,
    /// Being suspended or resumed.
    Switching,
    /// Active, and none of its processes runs.
    Paused,
    /// Being taken down.
    Stopping,
}

/// A domain as far as permission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    phase: Phase,
    persistent: bool,
    autostart: bool,
    /// A change of its devices is under way.
    changing: bool,
}

/// A request without what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Keep a definition.
    Define,
    /// Forget the definition.
    Undefine,
    /// Start a document.
    Create,
    /// Start the definition.
    Start,
    /// Ask init to power off or to restart.
    Shutdown,
    /// Send init a signal.
    Signal,
    /// Stop its processes where they are.
    Suspend,
    /// Let them go on.
    Resume,
    /// End it.
    Destroy,
    /// Start it with the host, or do not.
    SetAutostart(bool),
    /// Change what runs.
    EditLive,
    /// Change what the next start uses.
    EditNext,
    /// Do something with a console.
    Console,
    /// Tell when nothing is under way.
    Settle,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Do it.
    Accept,
    /// It is so already, or is just being done: answer with that.
    Already,
    /// Ask again when what is under way has ended.
    Wait,
    /// No.
    Deny(Denial),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// There is no such domain.
    Absent,
    /// It is not active.
    NotRunning,
    /// It is active.
    Active,
    /// It is active and not paused.
    NotPaused,
    /// Nobody inside can take a request.
    Paused,
    /// The same, and it is the container's own doing. The kernel's matter: no phase says so.
    FrozeItself,
    /// It has no definition to forget.
    UndefineTransient,
    /// It has no definition to start from.
    AutostartTransient,
    /// It has no definition to change.
    EditTransient,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// A definition was kept.
    Defined,
    /// The definition was forgotten.
    Undefined,
    /// It starts with the host, or no longer.
    Autostart(bool),
    /// A start is under way.
    StartBegan,
    /// The start failed and everything is undone.
    StartFailed,
    /// It runs.
    Started,
    /// It is being suspended or resumed.
    SwitchBegan,
    /// None of its processes runs.
    Paused,
    /// They run again, or still.
    Resumed,
    /// An end is under way.
    StopBegan,
    /// Nothing of it is left.
    Stopped,
    /// A change of what runs is under way.
    ChangeBegan,
    /// It is made, or is not.
    ChangeEnded,
}

impl Ask {
    /// Whether it would see or change a definition of which nobody knows yet what it will be.
    fn meets_a_change(self, phase: Phase) -> bool {
        match self {
            Self::Define
            | Self::Undefine
            | Self::Suspend
            | Self::Resume
            | Self::EditLive
            | Self::EditNext
            | Self::Settle => true,
            Self::Create | Self::Start => phase == Phase::Shutoff,
            Self::Shutdown | Self::Signal | Self::Destroy | Self::SetAutostart(_) | Self::Console => false,
        }
    }
}

impl Lifecycle {
    /// A domain nobody knows.
    pub const ABSENT: Self =
        Self { phase: Phase::Absent, persistent: false, autostart: false, changing: false };

    /// The phase.
    pub fn phase(self) -> Phase {
        self.phase
    }

    /// Whether it has a definition.
    pub fn persistent(self) -> bool {
        self.persistent
    }

    /// Whether it starts with the host.
    pub fn autostart(self) -> bool {
        self.autostart
    }

    /// May this be asked now?
    pub fn decide(self, ask: Ask) -> Verdict {
        match self.phase {
            Phase::Shutoff | Phase::Running | Phase::Paused
                if self.changing && ask.meets_a_change(self.phase) =>
            {
                Verdict::Wait
            }
            Phase::Absent => match ask {
                Ask::Define | Ask::Create => Verdict::Accept,
                _ => Verdict::Deny(Denial::Absent),
            },
            Phase::Shutoff => match ask {
                Ask::Define | Ask::Undefine | Ask::Create | Ask::Start | Ask::EditNext => Verdict::Accept,
                Ask::SetAutostart(on) => self.autostart_verdict(on),
                Ask::Settle => Verdict::Already,
                Ask::Shutdown
                | Ask::Signal
                | Ask::Suspend
                | Ask::Resume
                | Ask::Destroy
                | Ask::EditLive
                | Ask::Console => Verdict::Deny(Denial::NotRunning),
            },
            Phase::Starting | Phase::Switching => match ask {
                Ask::Destroy => Verdict::Accept,
                _ => Verdict::Wait,
            },
            Phase::Running => self.decide_running(ask),
            Phase::Paused => match ask {
                Ask::Suspend => Verdict::Already,
                Ask::Resume => Verdict::Accept,
                // It would lie about until somebody resumes the domain, for whatever reason.
                Ask::Shutdown | Ask::Signal => Verdict::Deny(Denial::Paused),
                _ => self.decide_running(ask),
            },
            Phase::Stopping => match ask {
                Ask::Destroy => Verdict::Already,
                _ => Verdict::Wait,
            },
        }
    }

    fn decide_running(self, ask: Ask) -> Verdict {
        match ask {
            Ask::Create | Ask::Start => Verdict::Deny(Denial::Active),
            Ask::Define
            | Ask::Shutdown
            | Ask::Signal
            | Ask::Suspend
            | Ask::Destroy
            | Ask::EditLive
            | Ask::Console => Verdict::Accept,
            Ask::Resume => Verdict::Deny(Denial::NotPaused),
            Ask::Settle => Verdict::Already,
            Ask::Undefine if self.persistent => Verdict::Accept,
            Ask::Undefine => Verdict::Deny(Denial::UndefineTransient),
            Ask::EditNext if self.persistent => Verdict::Accept,
            Ask::EditNext => Verdict::Deny(Denial::EditTransient),
            Ask::SetAutostart(on) if self.persistent => self.autostart_verdict(on),
            Ask::SetAutostart(_) => Verdict::Deny(Denial::AutostartTransient),
        }
    }

    fn autostart_verdict(self, on: bool) -> Verdict {
        if self.autostart == on { Verdict::Already } else { Verdict::Accept }
    }

    /// The domain after something happened. What cannot happen now changes nothing.
    #[must_use]
    pub fn after(self, fact: Fact) -> Self {
        let ended = if self.persistent { Phase::Shutoff } else { Phase::Absent };
        match (self.phase, fact) {
            (Phase::Absent, Fact::Defined) => Self { phase: Phase::Shutoff, persistent: true, ..self },
            (_, Fact::Defined) => Self { persistent: true, ..self },
            (Phase::Shutoff, Fact::Undefined) => Self::ABSENT,
            (_, Fact::Undefined) => Self { persistent: false, autostart: false, ..self },
            (_, Fact::Autostart(on)) => Self { autostart: on && self.persistent, ..self },
            (Phase::Absent | Phase::Shutoff, Fact::StartBegan) => Self { phase: Phase::Starting, ..self },
            (Phase::Starting, Fact::Started) => Self { phase: Phase::Running, ..self },
            (Phase::Starting, Fact::StartFailed) => Self { phase: ended, ..self },
            (Phase::Running | Phase::Paused, Fact::SwitchBegan) => Self { phase: Phase::Switching, ..self },
            (Phase::Running | Phase::Switching, Fact::Paused) => Self { phase: Phase::Paused, ..self },
            (Phase::Paused | Phase::Switching, Fact::Resumed) => Self { phase: Phase::Running, ..self },
            (Phase::Running | Phase::Switching | Phase::Paused, Fact::StopBegan) => {
                Self { phase: Phase::Stopping, ..self }
            }
            (Phase::Stopping, Fact::Stopped) => Self { phase: ended, ..self },
            (Phase::Running | Phase::Paused, Fact::ChangeBegan) => Self { changing: true, ..self },
            (_, Fact::ChangeEnded) => Self { changing: false, ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    const ASKS: [Ask; 15] = [
        Ask::Define,
        Ask::Undefine,
        Ask::Create,
        Ask::Start,
        Ask::Shutdown,
        Ask::Signal,
        Ask::Suspend,
        Ask::Resume,
        Ask::Destroy,
        Ask::SetAutostart(true),
        Ask::SetAutostart(false),
        Ask::EditLive,
        Ask::EditNext,
        Ask::Console,
        Ask::Settle,
    ];

    /// What the task does with an accepted request, with the outcome of a start or stop chosen by the test.
    fn play(now: Lifecycle, ask: Ask, good: bool) -> Lifecycle {
        if now.decide(ask) != Verdict::Accept {
            return now;
        }
        let outcome = if good { Fact::Started } else { Fact::StartFailed };
        match ask {
            Ask::Define => now.after(Fact::Defined),
            Ask::Undefine => now.after(Fact::Undefined),
            Ask::Create | Ask::Start => now.after(Fact::StartBegan).after(outcome),
            Ask::Suspend => {
                now.after(Fact::SwitchBegan).after(if good { Fact::Paused } else { Fact::Resumed })
            }
            Ask::Resume => {
                now.after(Fact::SwitchBegan).after(if good { Fact::Resumed } else { Fact::Paused })
            }
            Ask::Destroy => now.after(Fact::StartFailed).after(Fact::StopBegan).after(Fact::Stopped),
            Ask::SetAutostart(on) => now.after(Fact::Autostart(on)),
            Ask::Shutdown | Ask::Signal | Ask::EditLive | Ask::EditNext | Ask::Console | Ask::Settle => now,
        }
    }

    fn check(now: Lifecycle) {
        match now.phase {
            Phase::Absent => assert!(!now.persistent, "{now:?}"),
            Phase::Shutoff => assert!(now.persistent, "a transient domain that is shut off: {now:?}"),
            _ => {}
        }
        assert!(now.persistent || !now.autostart, "{now:?}");
    }

    proptest! {
        #[test]
        fn random_requests_keep_the_rules(steps in proptest::collection::vec((0..ASKS.len(), any::<bool>()), 0..60)) {
            let mut now = Lifecycle::ABSENT;
            for (ask, good) in steps {
                let before = now;
                now = play(now, ASKS[ask], good);
                check(now);
                match ASKS[ask] {
                    Ask::Start | Ask::Create | Ask::Suspend | Ask::Resume if !good => prop_assert_eq!(before, now),
                    Ask::Shutdown | Ask::Signal | Ask::Console => prop_assert_eq!(before, now),
                    _ => {}
                }
            }
        }

        #[test]
        fn random_facts_keep_the_rules(facts in proptest::collection::vec(0..14_usize, 0..60)) {
            let all = [
                Fact::Defined, Fact::Undefined, Fact::Autostart(true), Fact::Autostart(false), Fact::StartBegan,
                Fact::StartFailed, Fact::Started, Fact::SwitchBegan, Fact::Paused, Fact::Resumed, Fact::StopBegan,
                Fact::Stopped, Fact::ChangeBegan, Fact::ChangeEnded,
            ];
            let mut now = Lifecycle::ABSENT;
            for fact in facts {
                now = now.after(all[fact]);
                check(now);
                for ask in ASKS {
                    let verdict = now.decide(ask);
                    // Whatever waits is let go on: nothing waits unless something is under way.
                    prop_assert!(
                        verdict != Verdict::Wait
                            || matches!(now.phase, Phase::Starting | Phase::Switching | Phase::Stopping)
                            || (now.changing && now.after(Fact::ChangeEnded).decide(ask) != Verdict::Wait)
                    );
                    // A change holds up neither the end of a domain nor its consoles.
                    let free = matches!(ask, Ask::Destroy | Ask::Console | Ask::Shutdown | Ask::Signal);
                    prop_assert!(!free || verdict == now.after(Fact::ChangeEnded).decide(ask));
                }
            }
        }
    }

    #[test]
    fn the_texts_of_the_book() {
        let shutoff = Lifecycle::ABSENT.after(Fact::Defined);
        let running = shutoff.after(Fact::StartBegan).after(Fact::Started);
        let transient = running.after(Fact::Undefined);
        assert_eq!(shutoff.decide(Ask::Destroy), Verdict::Deny(Denial::NotRunning));
        assert_eq!(running.decide(Ask::Start), Verdict::Deny(Denial::Active));
        assert_eq!(transient.decide(Ask::Undefine), Verdict::Deny(Denial::UndefineTransient));
        assert_eq!(transient.decide(Ask::SetAutostart(false)), Verdict::Deny(Denial::AutostartTransient));
        assert_eq!(transient.decide(Ask::EditNext), Verdict::Deny(Denial::EditTransient));
        assert_eq!(transient.after(Fact::StopBegan).after(Fact::Stopped), Lifecycle::ABSENT);
        assert_eq!(transient.after(Fact::Defined).decide(Ask::Undefine), Verdict::Accept);
        assert_eq!(shutoff.after(Fact::Autostart(true)).decide(Ask::SetAutostart(true)), Verdict::Already);
    }

    #[test]
    fn what_may_be_asked_of_a_paused_domain() {
        let running = Lifecycle::ABSENT.after(Fact::Defined).after(Fact::StartBegan).after(Fact::Started);
        let changing = running.after(Fact::SwitchBegan);
        let paused = changing.after(Fact::Paused);
        for (ask, verdict) in [
            (Ask::Start, Verdict::Deny(Denial::Active)),
            (Ask::Create, Verdict::Deny(Denial::Active)),
            (Ask::Suspend, Verdict::Already),
            (Ask::Resume, Verdict::Accept),
            (Ask::Shutdown, Verdict::Deny(Denial::Paused)),
            (Ask::Signal, Verdict::Deny(Denial::Paused)),
            (Ask::Destroy, Verdict::Accept),
            (Ask::Console, Verdict::Accept),
            (Ask::Define, Verdict::Accept),
            (Ask::Undefine, Verdict::Accept),
            (Ask::EditLive, Verdict::Accept),
            (Ask::Settle, Verdict::Already),
        ] {
            assert_eq!(paused.decide(ask), verdict, "{ask:?}");
        }
        assert_eq!(running.decide(Ask::Resume), Verdict::Deny(Denial::NotPaused));
        assert_eq!(
            Lifecycle::ABSENT.after(Fact::Defined).decide(Ask::Suspend),
            Verdict::Deny(Denial::NotRunning)
        );
        // Only an end does not wait for the change.
        assert_eq!(changing.decide(Ask::Destroy), Verdict::Accept);
        assert_eq!(changing.decide(Ask::Shutdown), Verdict::Wait);
        for from in [running, changing, paused] {
            assert_eq!(from.after(Fact::StopBegan).phase(), Phase::Stopping);
        }
        assert_eq!(paused.after(Fact::Resumed), running);
        assert_eq!(Lifecycle::ABSENT.after(Fact::Paused), Lifecycle::ABSENT);
    }
}
