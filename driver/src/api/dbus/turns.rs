//! Calls of clients, each in its turn: some of one client at once, and the others wait in order.
//!
//! Programs written for other daemons send a hundred calls and wait for all answers. A user has one share, with however
//! many connections, and administrators have what is theirs whatever others send. Does not know what any call means, nor
//! how it is found out whose a client is.

use std::collections::{HashMap, VecDeque};
use std::iter::Sum;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Calls under way: of one client, and of all administrators.
const RUN_OF_CLIENT: usize = 64;
const RUN_OF_ADMINS: usize = 512;

/// Of one other user, and of all others. polkit is asked about each of these, perhaps for minutes, and `dbus-daemon` lets
/// nobody wait for more than 128 answers.
const RUN_OF_USER: usize = 32;
const RUN_OF_OTHERS: usize = 96;

/// Calls that wait or are under way; beyond these they are refused. The last is of clients that are too new for it to be
/// known whose they are.
const KNOWN_OF_CLIENT: usize = 1024;
const KNOWN_OF_ADMINS: usize = 2048;
const KNOWN_OF_USER: usize = 1024;
const KNOWN_OF_OTHERS: usize = 3072;
const KNOWN_OF_NEW: usize = 1024;

/// Bytes of messages for each call that may be known: they are counted together.
const BYTES: usize = 8 << 10;

/// Whose a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Of one who may do everything.
    Admin,
    /// Of another, by number.
    Other(u32),
}

/// All calls there are.
#[derive(Debug)]
pub struct Turns {
    clients: Mutex<HashMap<String, Client>>,
    users: Mutex<HashMap<u32, Arc<Semaphore>>>,
    others: Arc<Semaphore>,
    admins: Arc<Semaphore>,
}

/// What there is of one client.
#[derive(Debug, Default)]
struct Client {
    /// None: it is not known yet.
    user: Option<User>,
    load: Load,
    running: usize,
    waiting: VecDeque<oneshot::Sender<()>>,
    /// Its user turned out to have too many calls, so all of these are refused.
    refused: bool,
}

/// Calls, and the bytes of their messages.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    calls: usize,
    bytes: usize,
}

/// A call that is known, until this is dropped.
#[derive(Debug)]
pub struct Place {
    turns: Arc<Turns>,
    client: String,
    bytes: usize,
    /// What tells that it is the client's turn; none if it is.
    turn: Option<oneshot::Receiver<()>>,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub struct Turn(
    #[expect(dead_code, reason = "given back by being dropped")] [Option<OwnedSemaphorePermit>; 2],
);

impl Default for Turns {
    fn default() -> Self {
        Self {
            clients: Mutex::default(),
            users: Mutex::default(),
            others: Arc::new(Semaphore::new(RUN_OF_OTHERS)),
            admins: Arc::new(Semaphore::new(RUN_OF_ADMINS)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// A place for a call of a client, of so many bytes; none if there are too many.
    pub fn place(self: &Arc<Self>, client: &str, bytes: usize) -> Option<Place> {
        let mut clients = lock(&self.clients);
        let one = Load { calls: 1, bytes };
        let known = clients.get(client);
        if known.is_some_and(|c| c.refused)
            || !known.map(|c| c.load).into_iter().chain([one]).sum::<Load>().fits(KNOWN_OF_CLIENT)
            || !has_room(&clients, known.and_then(|c| c.user), one)
        {
            return None;
        }
        let entry = clients.entry(client.to_owned()).or_default();
        entry.load = [entry.load, one].into_iter().sum();
        let turn = if entry.running < RUN_OF_CLIENT {
            entry.running += 1;
            None
        } else {
            let (sender, turn) = oneshot::channel();
            entry.waiting.push_back(sender);
            Some(turn)
        };
        Some(Place { turns: self.clone(), client: client.to_owned(), bytes, turn })
    }

    /// Whose a client is has turned out. False: its user has too many calls, and those of the client are refused.
    fn belongs(&self, client: &str, user: User) -> bool {
        let mut clients = lock(&self.clients);
        let Some(Client { user: known, load, refused, .. }) = clients.get(client) else { return false };
        if known.is_some() || *refused {
            return !refused;
        }
        let fits = has_room(&clients, Some(user), *load);
        if let Some(entry) = clients.get_mut(client) {
            if fits {
                entry.user = Some(user);
            } else {
                entry.refused = true;
                entry.waiting.clear();
            }
        }
        fits
    }

    /// The share of one user in what is under way.
    fn share(&self, user: u32) -> Arc<Semaphore> {
        let mut users = lock(&self.users);
        users.retain(|_, share| Arc::strong_count(share) > 1);
        users.entry(user).or_insert_with(|| Arc::new(Semaphore::new(RUN_OF_USER))).clone()
    }
}

/// Whether there is room for more of a user.
fn has_room(clients: &HashMap<String, Client>, user: Option<User>, more: Load) -> bool {
    let with = |counts: &dyn Fn(Option<User>) -> bool| -> Load {
        clients.values().filter(|c| counts(c.user)).map(|c| c.load).chain([more]).sum()
    };
    let same = with(&|u| u == user);
    match user {
        None => same.fits(KNOWN_OF_NEW),
        Some(User::Admin) => same.fits(KNOWN_OF_ADMINS),
        Some(User::Other(_)) => {
            same.fits(KNOWN_OF_USER) && with(&|u| matches!(u, Some(User::Other(_)))).fits(KNOWN_OF_OTHERS)
        }
    }
}

impl Load {
    fn fits(self, calls: usize) -> bool {
        self.calls <= calls && self.bytes <= calls * BYTES
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self { calls: a.calls + b.calls, bytes: a.bytes + b.bytes })
    }
}

impl Place {
    /// Waits until it is its turn: first among its client's, then among its user's, so that what waits takes no place from
    /// others. None: its user has too many.
    pub async fn turn(&mut self, user: impl Future<Output = User>) -> Option<Turn> {
        if let Some(turn) = &mut self.turn {
            turn.await.ok()?;
            self.turn = None;
        }
        let user = user.await;
        if !self.turns.belongs(&self.client, user) {
            return None;
        }
        // Nobody closes them.
        Some(match user {
            User::Admin => Turn([self.turns.admins.clone().acquire_owned().await.ok(), None]),
            User::Other(user) => {
                let own = self.turns.share(user).acquire_owned().await.ok();
                Turn([own, self.turns.others.clone().acquire_owned().await.ok()])
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = lock(&self.turns.clients);
        let Some(client) = clients.get_mut(&self.client) else { return };
        client.load.calls -= 1;
        client.load.bytes -= self.bytes;
        // Told while nobody listened, it counts as well.
        let had_turn = self.turn.as_mut().is_none_or(|turn| turn.try_recv().is_ok());
        // Before others are told: this one may be among those that wait.
        self.turn = None;
        if had_turn {
            client.running -= 1;
            while let Some(next) = client.waiting.pop_front() {
                if next.send(()).is_ok() {
                    client.running += 1;
                    break;
                }
            }
        }
        if client.load.calls == 0 {
            clients.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::future::ready;
    use std::task::{Context, Poll, Waker};

    fn now(place: &mut Place, user: User) -> Poll<Option<Turn>> {
        let turn = Box::pin(place.turn(ready(user)));
        std::pin::pin!(turn).as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn many(turns: &Arc<Turns>, client: &str, bytes: usize) -> Vec<Place> {
        (0..10_000).map_while(|_| turns.place(client, bytes)).collect()
    }

    /// Those that are under way now.
    fn begin(places: &mut [Place], user: User) -> Vec<Turn> {
        places
            .iter_mut()
            .filter_map(|place| match now(place, user) {
                Poll::Ready(turn) => turn,
                Poll::Pending => None,
            })
            .collect()
    }

    #[test]
    fn calls_of_one_client_wait_in_order_and_those_of_others_do_not() {
        let turns = Arc::new(Turns::default());
        let mut places: VecDeque<Place> = many(&turns, ":1.1", 100).into();
        assert_eq!(places.len(), KNOWN_OF_CLIENT);
        assert_eq!(begin(places.make_contiguous(), User::Admin).len(), RUN_OF_CLIENT);
        let mut other = turns.place(":1.2", 100).expect("a place");
        assert!(now(&mut other, User::Admin).is_ready());
        // One ends, and the next one goes on, whoever is asked first.
        places.pop_front();
        assert!(now(&mut places[RUN_OF_CLIENT], User::Admin).is_pending());
        assert!(now(&mut places[RUN_OF_CLIENT - 1], User::Admin).is_ready());
        // What waits and goes is not told.
        places.remove(RUN_OF_CLIENT);
        places.pop_front();
        assert!(now(&mut places[RUN_OF_CLIENT - 1], User::Admin).is_ready());
        assert!(now(&mut places[RUN_OF_CLIENT], User::Admin).is_pending());
        // Nor is a turn lost of which nobody took notice.
        places.pop_front();
        places.remove(RUN_OF_CLIENT - 1);
        assert!(now(&mut places[RUN_OF_CLIENT - 1], User::Admin).is_ready());
        drop((places, other));
        assert!(lock(&turns.clients).is_empty());
    }

    #[test]
    fn a_user_has_one_share_with_however_many_connections() {
        let turns = Arc::new(Turns::default());
        let user = User::Other(1000);
        let mut first = many(&turns, ":1.1", 0);
        let under_way = begin(&mut first, user);
        assert_eq!(under_way.len(), RUN_OF_USER);
        // Another connection is admitted as one that nobody knows, and refused when it is known: also what waits.
        let mut second = many(&turns, ":1.2", 0);
        assert_eq!(second.len(), KNOWN_OF_NEW);
        assert!(turns.place(":1.3", 0).is_none());
        assert!(second.iter_mut().all(|place| matches!(now(place, user), Poll::Ready(None))));
        assert!(turns.place(":1.2", 0).is_none());
        drop(second);
        // Others go on.
        let mut third = many(&turns, ":1.4", 0);
        assert_eq!(begin(&mut third, User::Other(1001)).len(), RUN_OF_USER);
        drop((under_way, first, third));
        assert!(lock(&turns.clients).is_empty());
        assert_eq!(turns.others.available_permits(), RUN_OF_OTHERS);
    }

    #[test]
    fn users_keep_no_administrator_out() {
        let turns = Arc::new(Turns::default());
        let (mut all, mut under_way) = (Vec::new(), Vec::new());
        for user in 1000..1010 {
            let mut places = many(&turns, &format!(":1.{user}"), 0);
            under_way.extend(begin(&mut places, User::Other(user)));
            // The refused end at once.
            places.retain(|place| !lock(&turns.clients)[&place.client].refused);
            all.extend(places);
        }
        assert_eq!(under_way.len(), RUN_OF_OTHERS);
        let mut root = many(&turns, ":1.1", 0);
        assert_eq!(root.len(), KNOWN_OF_CLIENT);
        assert_eq!(begin(&mut root, User::Admin).len(), RUN_OF_CLIENT);
    }

    #[test]
    fn bytes_count_as_well() {
        let turns = Arc::new(Turns::default());
        let large = 2 << 20;
        let mut first = many(&turns, ":1.1", large);
        assert_eq!(first.len(), KNOWN_OF_CLIENT * BYTES / large);
        let under_way = begin(&mut first, User::Admin);
        assert_eq!(under_way.len(), first.len());
        let mut second = many(&turns, ":1.2", large);
        assert_eq!(begin(&mut second, User::Admin).len(), KNOWN_OF_CLIENT * BYTES / large);
        let mut third = many(&turns, ":1.3", large);
        assert!(begin(&mut third, User::Admin).is_empty());
    }
}
