//! The nodes of a cluster: each request goes to the node that leads its shard, as far as is known, or else
//! to any; every node passes on what another one leads.
//!
//! What is known comes from the nodes themselves, is asked for again every second, and at once when a node
//! does not answer. A node that does not is left out for a while.

use super::address::Address;
use super::connection::OwnedTask;
use super::pool::Pool;
use crate::error::Error;
use crate::transport::{BoxFuture, RawAnswer, Route, Transport, open_answer};
use bytes::Bytes;
use flowstone_wire::native::{self, ClusterStatus, GetCluster, Request};
use flowstone_wire::{ErrorCode, Failure, ShardId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// The nodes are asked this often who leads, where there are several.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The same where there is one: others may have come.
const ASK_ALONE_EVERY: Duration = Duration::from_secs(10);
/// Between two questions there is at least this.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// A node that has not said by then who leads does not work.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);
/// A node that did not answer is left out for so long.
const LEFT_OUT: Duration = Duration::from_secs(2);

/// What is known of the nodes.
struct Known {
    pools: HashMap<Address, Arc<Pool>>,
    /// Where each shard is led.
    leaders: HashMap<ShardId, Address>,
    /// The node for what is of no shard.
    any: Address,
    /// Nodes that did not answer, and until when they are left out.
    out: HashMap<Address, Instant>,
}

struct Shared {
    seeds: Vec<Address>,
    known: Mutex<Known>,
    stale: Notify,
    /// Where connections run, also when a request comes from a thread outside.
    runtime: Handle,
}

/// A transport to all nodes of a cluster. See the module.
pub(crate) struct Nodes {
    shared: Arc<Shared>,
    _asking: OwnedTask<()>,
}

impl Nodes {
    /// Connects to the first of these that answers: URLs, separated by commas.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`]; what the last one says.
    pub(crate) async fn connect(urls: &str) -> Result<Self, Error> {
        let seeds: Result<Vec<Address>, Error> = urls.split(',').map(str::parse).collect();
        let seeds = seeds?;
        let (any, pool) = first_of(&seeds).await?;
        let known = Known {
            pools: HashMap::from([(any.clone(), Arc::new(pool))]),
            leaders: HashMap::new(),
            any,
            out: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            seeds,
            known: Mutex::new(known),
            stale: Notify::new(),
            runtime: Handle::current(),
        });
        let asking = tokio::spawn(keep_asking(shared.clone()));
        Ok(Self {
            shared,
            _asking: OwnedTask(asking),
        })
    }
}

async fn first_of(seeds: &[Address]) -> Result<(Address, Pool), Error> {
    let mut last = None;
    for address in seeds {
        match Pool::connect(address.clone()).await {
            Ok(pool) => return Ok((address.clone(), pool)),
            Err(e) => last = Some(e),
        }
    }
    let nobody = || Failure::new(ErrorCode::Disconnected, "no address of a broker is given");
    Err(last.unwrap_or_else(nobody).into())
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, known: &mut Known, address: &Address) -> Arc<Pool> {
        let pools = &mut known.pools;
        let pool = pools
            .entry(address.clone())
            .or_insert_with(|| Arc::new(Pool::unconnected(address.clone(), self.runtime.clone())));
        pool.clone()
    }

    fn pool_for(&self, route: Route) -> (Address, Arc<Pool>) {
        let mut known = self.known();
        let leader = match route {
            Route::Shard(shard) => known.leaders.get(&shard),
            Route::Any => None,
        };
        let address = leader.unwrap_or(&known.any).clone();
        let pool = self.pool(&mut known, &address);
        (address, pool)
    }

    /// A node did not answer: others are asked from now on, if there are any.
    fn leave_out(&self, address: &Address) {
        let mut known = self.known();
        known.leaders.retain(|_, leader| leader != address);
        known.out.insert(address.clone(), Instant::now() + LEFT_OUT);
        if known.any == *address
            && let Some(other) = self.candidates(&known).into_iter().next()
        {
            known.any = other;
        }
        drop(known);
        self.stale.notify_one();
    }

    /// Nodes that may be asked, those that lead first; all of them where every one is left out.
    fn candidates(&self, known: &Known) -> Vec<Address> {
        let mut all: Vec<Address> = known.leaders.values().cloned().collect();
        all.push(known.any.clone());
        all.extend(known.pools.keys().cloned());
        all.extend(self.seeds.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        all.retain(|a| seen.insert(a.clone()));
        let now = Instant::now();
        let is_out = |a: &&Address| known.out.get(*a).is_some_and(|until| *until > now);
        let fit: Vec<Address> = all.iter().filter(|a| !is_out(a)).cloned().collect();
        if fit.is_empty() { all } else { fit }
    }

    /// Takes what a node says of the cluster.
    fn learn(&self, from: &Address, status: &ClusterStatus) {
        let mut known = self.known();
        let now = Instant::now();
        known.out.retain(|_, until| *until > now);
        let nodes = status.nodes.iter().filter(|n| n.state != "removed");
        let addresses: HashMap<_, Address> = nodes
            .filter_map(|n| Some((n.node, format!("tcp://{}", n.native).parse().ok()?)))
            .collect();
        if known.out.contains_key(&known.any) {
            known.any = from.clone();
        }
        if addresses.len() < 2 {
            // Whatever the node calls itself: it is reached as it was.
            known.leaders.clear();
            return;
        }
        for address in addresses.values() {
            self.pool(&mut known, address);
        }
        let leaders = status.shards.iter().filter(|s| s.is_active);
        let leaders = leaders.filter_map(|s| Some((s.shard, addresses.get(&s.leader)?.clone())));
        let leaders: HashMap<ShardId, Address> = leaders
            .filter(|(_, address)| !known.out.contains_key(address))
            .collect();
        known.leaders = leaders;
    }

    /// Asks all that lead, and as many others as it takes for one answer of a node that hears who decides,
    /// and takes the newest. Returns whether there are several nodes.
    async fn ask(&self) -> bool {
        let candidates = self.candidates(&self.known());
        let leading = self.known().leaders.len();
        let mut has_answer = false;
        let mut newest: Option<(Address, ClusterStatus)> = None;
        for (n, address) in candidates.into_iter().enumerate() {
            if has_answer && n >= leading {
                break;
            }
            let pool = self.pool(&mut self.known(), &address);
            match timeout(ANSWER_WITHIN, status_of(&pool)).await {
                Ok(Ok(status)) => {
                    // One that is cut off from the others may still be reached from here.
                    has_answer |= status.leader.is_some();
                    let age = |s: &ClusterStatus| (s.leader.is_some(), s.term, s.applied);
                    if newest.as_ref().is_none_or(|(_, s)| age(s) < age(&status)) {
                        newest = Some((address, status));
                    }
                }
                Ok(Err(e)) if e.code == ErrorCode::Disconnected => self.leave_out(&address),
                // It works, and knows nothing of clusters.
                Ok(Err(_)) => has_answer = true,
                Err(_) => {
                    self.leave_out(&address);
                    pool.stall();
                }
            }
        }
        if let Some((address, status)) = newest {
            self.learn(&address, &status);
        }
        self.known().pools.len() > 1
    }
}

async fn status_of(pool: &Pool) -> Result<ClusterStatus, Failure> {
    let header = native::encode(&GetCluster {})?;
    let answer = pool.call(Route::Any, GetCluster::API, header, Bytes::new());
    open_answer::<GetCluster>(&answer.await?)
}

async fn keep_asking(shared: Arc<Shared>) {
    loop {
        let has_several = shared.ask().await;
        tokio::time::sleep(ASK_PAUSE).await;
        let pause = if has_several {
            ASK_EVERY
        } else {
            ASK_ALONE_EVERY
        };
        // Over or told: both mean to ask again.
        let _ = timeout(pause, shared.stale.notified()).await;
    }
}

impl Transport for Nodes {
    fn call(
        &self,
        route: Route,
        api: u16,
        header: Vec<u8>,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<RawAnswer, Failure>> {
        let (address, pool) = self.shared.pool_for(route);
        let answer = pool.call(route, api, header, payload);
        let shared = self.shared.clone();
        Box::pin(async move {
            let answered = answer.await;
            if let Err(e) = &answered
                && matches!(e.code, ErrorCode::Disconnected | ErrorCode::Timeout)
            {
                shared.leave_out(&address);
            }
            answered
        })
    }
}
