//! How many connections there may be at once: everybody may connect, and nobody may keep others out.
//!
//! Does not know what is said on a connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Connections at once. Those between this and [`MOST_OF_OTHERS`] are for the daemon's own user, which is root.
const MOST: usize = 512;

/// Of all other users together, and of one of them.
const MOST_OF_OTHERS: usize = 384;
const MOST_OF_ONE: usize = 128;

/// How often a refusal is worth a line in the log.
const PAUSE: Duration = Duration::from_secs(10);

/// The connections there are, by user.
#[derive(Debug, Default)]
pub struct Places(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    own: usize,
    others: HashMap<u32, usize>,
    refused: Option<Instant>,
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// What to say.
    pub message: String,
    /// Whether it is worth a line in the log, as there was none lately.
    pub is_news: bool,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// None is the daemon's own user.
    user: Option<u32>,
}

impl Places {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection of a user; `own` is the daemon's.
    ///
    /// # Errors
    /// There are too many of that user, or of all.
    pub fn take(self: &Arc<Self>, user: u32, own: u32) -> Result<Place, Full> {
        let user = (user != own && user != 0).then_some(user);
        let mut taken = self.taken();
        match taken.admit(user) {
            Ok(()) => Ok(Place { places: self.clone(), user }),
            Err(message) => {
                let is_news = taken.refused.is_none_or(|at| at.elapsed() >= PAUSE);
                if is_news {
                    taken.refused = Some(Instant::now());
                }
                Err(Full { message, is_news })
            }
        }
    }
}

impl Taken {
    fn admit(&mut self, user: Option<u32>) -> Result<(), String> {
        let others: usize = self.others.values().sum();
        let Some(user) = user else {
            if self.own + others >= MOST {
                return Err(format!("there are {MOST} connections already"));
            }
            self.own += 1;
            return Ok(());
        };
        let count = self.others.get(&user).copied().unwrap_or_default();
        if count >= MOST_OF_ONE {
            return Err(format!("user {user} has {MOST_OF_ONE} connections already"));
        }
        let left = MOST_OF_OTHERS.saturating_sub(others).min(MOST.saturating_sub(self.own + others));
        if left == 0 {
            return Err("too many users have connections".to_owned());
        }
        // The more there are, the more are kept for who has few: it takes ten users who want all to leave none.
        if count >= left {
            return Err(format!(
                "user {user} has {count} connections already, and {left} are left for others"
            ));
        }
        self.others.insert(user, count + 1);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        let Some(user) = self.user else {
            taken.own -= 1;
            return;
        };
        if let Some(count) = taken.others.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                taken.others.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn nobody_keeps_others_out() {
        let places = Arc::new(Places::default());
        let many = |user| -> Vec<Place> { (0..1000).map_while(|_| places.take(user, 7).ok()).collect() };
        let first: Vec<Place> = (0..MOST_OF_ONE).map_while(|_| places.take(1000, 7).ok()).collect();
        assert_eq!(first.len(), MOST_OF_ONE);
        let [refused, again] = [0, 1].map(|_| places.take(1000, 7).expect_err("refused"));
        assert!(refused.is_news && !again.is_news);
        assert!(refused.message.contains("user 1000"), "{refused:?}");
        // Nor do several of them.
        let (second, third, fourth) = (many(1001), many(1002), many(1003));
        assert_eq!((second.len(), third.len(), fourth.len()), (MOST_OF_ONE, 64, 32));
        assert!(places.take(1002, 7).expect_err("refused").message.contains("are left for others"));
        let more: Vec<Vec<Place>> = (1004..1020).map(many).take_while(|all| !all.is_empty()).collect();
        assert!(more.len() >= 4, "{} more users", more.len());
        // Nor do many keep root out, or the daemon's own user.
        assert!(places.take(1020, 7).is_err());
        let (root, own) = (many(0), places.take(7, 7));
        assert_eq!(root.len(), MOST - MOST_OF_OTHERS);
        assert!(own.is_err());
        drop((first, root));
        assert!(places.take(7, 7).is_ok() && places.take(1020, 7).is_ok());
        drop((second, third, fourth, more));
        assert_eq!(many(1000).len(), MOST_OF_ONE);
        assert_eq!(places.taken().others.len(), 0);
        assert_eq!(places.taken().own, 0);
    }
}
