//! What was decoded last, for the samples beside it: bounded in bytes, loaded once however many
//! ask for it.

use std::{
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustc_hash::FxHashMap;
use tokio::sync::OnceCell;

pub(super) struct Recent<K, V> {
    most: u64,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    clock: u64,
    bytes: u64,
    entries: FxHashMap<K, Entry<V>>,
}

struct Entry<V> {
    cell: Arc<OnceCell<V>>,
    /// 0 until it is loaded.
    bytes: u64,
    used: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    /// Keeps at most `most` bytes, and always what was loaded last.
    pub(super) fn new(most: u64) -> Self {
        let state = State {
            clock: 0,
            bytes: 0,
            entries: FxHashMap::default(),
        };
        Self {
            most,
            state: Mutex::new(state),
        }
    }

    /// What is held for `key`, else what `load` returns beside its bytes. Errors are not held.
    pub(super) async fn get<F>(&self, key: K, load: F) -> Result<V, String>
    where
        F: Future<Output = Result<(V, u64), String>>,
    {
        let cell = self.cell(&key);
        let mut loaded = None;
        let value = cell
            .get_or_try_init(|| async {
                let (value, bytes) = load.await?;
                loaded = Some(bytes);
                Ok::<_, String>(value)
            })
            .await;
        match (&value, loaded) {
            (Ok(_), Some(bytes)) => self.loaded(&key, bytes),
            (Ok(_), None) => {}
            (Err(_), _) => self.failed(&key),
        }
        value.cloned()
    }

    fn cell(&self, key: &K) -> Arc<OnceCell<V>> {
        let mut state = self.lock();
        state.clock += 1;
        let used = state.clock;
        let entry = state.entries.entry(key.clone()).or_insert_with(|| Entry {
            cell: Arc::new(OnceCell::new()),
            bytes: 0,
            used,
        });
        entry.used = used;
        entry.cell.clone()
    }

    fn loaded(&self, key: &K, bytes: u64) {
        let mut state = self.lock();
        let Some(entry) = state.entries.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut entry.bytes, bytes.max(1));
        state.bytes += bytes.max(1) - before;
        while state.bytes > self.most {
            let held = state.entries.iter().filter(|(_, entry)| entry.bytes > 0);
            let others = held.filter(|(other, _)| *other != key);
            let oldest = others.min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            let gone = state.entries.remove(&oldest);
            state.bytes -= gone.map_or(0, |entry| entry.bytes);
        }
    }

    fn failed(&self, key: &K) {
        let mut state = self.lock();
        if state.entries.get(key).is_some_and(|entry| entry.bytes == 0) {
            state.entries.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Recent {{ most: {} }}", self.most)
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::Recent;

    #[tokio::test]
    async fn the_oldest_leave_and_nothing_is_loaded_twice() {
        let recent = Recent::new(25);
        let load = |key: u32| async move { Ok((key, 10)) };
        let never = || async { Err::<(u32, u64), _>("loaded again".to_owned()) };
        for key in [1, 2] {
            assert_eq!(recent.get(key, load(key)).await, Ok(key));
        }
        assert_eq!(recent.get(1, never()).await, Ok(1));
        assert_eq!(recent.get(3, load(3)).await, Ok(3));
        assert_eq!(recent.get(1, never()).await, Ok(1));
        assert!(recent.get(2, never()).await.is_err());
        // Larger than all that may be held: held alone.
        assert_eq!(recent.get(4, async { Ok((4, 100)) }).await, Ok(4));
        assert_eq!(recent.get(4, never()).await, Ok(4));
        assert!(recent.get(1, never()).await.is_err());
    }

    #[tokio::test]
    async fn who_comes_together_loads_once() {
        let recent = Recent::new(100);
        let loads = std::sync::atomic::AtomicU32::new(0);
        let asks = (0..20).map(|_| {
            recent.get("same", async {
                tokio::task::yield_now().await;
                let before = loads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok((before, 1))
            })
        });
        let all = join_all(asks).await;
        assert_eq!(all, vec![Ok(0); 20]);
    }
}
