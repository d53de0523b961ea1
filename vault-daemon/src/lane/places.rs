//! Room in the lane: so many items in all, whatever the number of cores, and a quarter of them for one
//! identity, whatever the number of its connections.
//!
//! Each call pays for four atomic additions and no lock: what its identity holds is found once a connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use vault_core::limits::LANE_ITEMS_MAX;
use vault_core::policy::Identity;

use super::lock;
use crate::identity::Peer;
use crate::limits::IDENTITY_LANE_ITEMS_MAX;

/// The lane's room.
#[derive(Default)]
pub struct Places {
    taken: AtomicUsize,
    /// Of every identity with an open connection that has made a call.
    shares: Mutex<HashMap<Identity, Weak<Share>>>,
}

/// What one identity holds of the lane, over all its connections.
pub(crate) struct Share {
    places: Arc<Places>,
    identity: Identity,
    taken: AtomicUsize,
}

/// A call's share of the lane; given back when dropped.
pub struct Place {
    /// Its own share is found: it got a place.
    peer: Arc<Peer>,
    items: usize,
}

impl Places {
    /// An empty lane.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A place for a call of so many items; `None` when the lane, or this identity's quarter of it, is full.
    pub fn take(self: &Arc<Self>, peer: &Arc<Peer>, items: usize) -> Option<Place> {
        let identity = peer.identity()?;
        let share = peer.lane_share(|| self.share_of(identity));
        take_within(&share.taken, items, IDENTITY_LANE_ITEMS_MAX)?;
        if take_within(&self.taken, items, LANE_ITEMS_MAX).is_none() {
            share.taken.fetch_sub(items, Ordering::Relaxed);
            return None;
        }
        Some(Place { peer: Arc::clone(peer), items })
    }

    /// The one share of an identity, made where it has none.
    fn share_of(self: &Arc<Self>, identity: &Identity) -> Arc<Share> {
        let mut shares = lock(&self.shares);
        if let Some(share) = shares.get(identity).and_then(Weak::upgrade) {
            return share;
        }
        let (places, taken) = (Arc::clone(self), AtomicUsize::new(0));
        let share = Arc::new(Share { places, identity: identity.clone(), taken });
        shares.insert(identity.clone(), Arc::downgrade(&share));
        share
    }
}

/// Adds, unless it would be more than `max`. The count alone is shared: nothing else hangs on its order.
fn take_within(taken: &AtomicUsize, items: usize, max: usize) -> Option<usize> {
    let more = |taken: usize| taken.checked_add(items).filter(|sum| *sum <= max);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(share) = self.peer.own_lane_share() {
            share.taken.fetch_sub(self.items, Ordering::Relaxed);
            share.places.taken.fetch_sub(self.items, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut shares = lock(&self.places.shares);
        // Another connection of this identity may have made a new one meanwhile.
        if shares.get(&self.identity).is_some_and(|share| share.strong_count() == 0) {
            shares.remove(&self.identity);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may stop loudly")]
mod tests {
    use std::thread;

    use vault_core::clock::Timestamp;
    use vault_core::limits::BATCH_ITEMS_MAX;

    use super::*;

    fn connection(name: &str) -> Arc<Peer> {
        let identity = Identity::parse(&format!("uri:spiffe://tests/{name}")).unwrap();
        Arc::new(Peer::new(Some(identity), Vec::new(), Timestamp::from_seconds(0)))
    }

    /// Takes places of so many items until there are no more.
    fn fill(places: &Arc<Places>, peer: &Arc<Peer>, items: usize) -> Vec<Place> {
        std::iter::from_fn(|| places.take(peer, items)).collect()
    }

    fn items(places: &[Place]) -> usize {
        places.iter().map(|place| place.items).sum()
    }

    #[test]
    fn all_cores_together_take_no_more_than_the_lane_holds() {
        let places = Places::new();
        // Eight cores at once, a client each, whose quarters are twice the lane.
        let taken: Vec<Vec<Place>> = thread::scope(|scope| {
            let core = |core: usize| {
                let (places, peer) = (Arc::clone(&places), connection(&core.to_string()));
                scope.spawn(move || fill(&places, &peer, 1))
            };
            let cores: Vec<_> = (0..8).map(core).collect();
            cores.into_iter().map(|core| core.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().map(|taken| items(taken)).sum::<usize>(), LANE_ITEMS_MAX);
        assert!(taken.iter().all(|taken| items(taken) <= IDENTITY_LANE_ITEMS_MAX));
        assert!(places.take(&connection("late"), 1).is_none());

        drop(taken);
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        assert!(lock(&places.shares).is_empty(), "identities without a connection are remembered");
    }

    #[test]
    fn one_identity_holds_a_quarter_however_many_connections_it_has() {
        let places = Places::new();
        let connections: Vec<_> = (0..8).map(|_| connection("greedy")).collect();
        let taken: Vec<Place> = connections.iter().flat_map(|peer| fill(&places, peer, 7)).collect();
        assert_eq!(items(&taken), IDENTITY_LANE_ITEMS_MAX - IDENTITY_LANE_ITEMS_MAX % 7);

        // Connections end and others come: the calls that they left still count.
        drop(connections);
        assert!(places.take(&connection("greedy"), 7).is_none());
        drop(taken);
        assert_eq!(fill(&places, &connection("greedy"), IDENTITY_LANE_ITEMS_MAX).len(), 1);
    }

    #[test]
    fn a_full_batch_finds_room_beside_three_greedy_clients() {
        let places = Places::new();
        let greedy = ["one", "two", "three"].map(connection);
        let taken = greedy.each_ref().map(|peer| fill(&places, peer, 1));
        assert_eq!(fill(&places, &connection("four"), BATCH_ITEMS_MAX).len(), 4);
        assert_eq!(taken.iter().map(|taken| items(taken)).sum::<usize>(), 3 * IDENTITY_LANE_ITEMS_MAX);
    }
}
