//! A bad network: a UDP proxy that loses, delays, reorders, doubles, and cuts one way or both.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// What the network does to each packet.
#[derive(Default)]
pub(crate) struct Faults {
    /// Of a thousand packets, how many are lost.
    pub(crate) lost: AtomicU32,
    /// How many come twice.
    pub(crate) doubled: AtomicU32,
    /// Longest delay, in milliseconds; each packet draws its own, so they are reordered.
    pub(crate) delay_ms: AtomicU32,
    /// Nothing goes from who dials to the target.
    pub(crate) cut_there: AtomicBool,
    /// Nothing comes back.
    pub(crate) cut_back: AtomicBool,
    /// Packets that got through.
    pub(crate) passed: AtomicU64,
    dice: AtomicU64,
}

/// A proxy in front of a target.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) faults: Arc<Faults>,
    _runtime: tokio::runtime::Runtime,
}

impl Proxy {
    pub(crate) fn before(target: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let faults = Arc::new(Faults::default());
        let front = runtime.block_on(UdpSocket::bind("127.0.0.1:0")).unwrap();
        let address = front.local_addr().unwrap();
        runtime.spawn(run(Arc::new(front), target, faults.clone()));
        Self {
            address,
            faults,
            _runtime: runtime,
        }
    }

    pub(crate) fn cut(&self, there: bool, back: bool) {
        self.faults.cut_there.store(there, SeqCst);
        self.faults.cut_back.store(back, SeqCst);
    }
}

impl Faults {
    fn draw(&self, below: u32) -> u32 {
        let mut x = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, SeqCst);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % u64::from(below.max(1))) as u32
    }

    async fn carry(self: &Arc<Self>, by: &Arc<UdpSocket>, to: SocketAddr, packet: &[u8]) {
        if self.draw(1000) < self.lost.load(SeqCst) {
            return;
        }
        let copies = 1 + u32::from(self.draw(1000) < self.doubled.load(SeqCst));
        let longest = self.delay_ms.load(SeqCst);
        for _ in 0..copies {
            self.passed.fetch_add(1, SeqCst);
            if longest == 0 {
                let _ = by.send_to(packet, to).await;
                continue;
            }
            let at = Instant::now() + Duration::from_millis(u64::from(self.draw(longest)));
            let (by, packet) = (by.clone(), packet.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                let _ = by.send_to(&packet, to).await;
            });
        }
    }
}

async fn run(front: Arc<UdpSocket>, target: SocketAddr, faults: Arc<Faults>) {
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut packet = vec![0; 65_536];
    while let Ok((size, from)) = front.recv_from(&mut packet).await {
        let way = match ways.get(&from) {
            Some(way) => way.clone(),
            None => {
                let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                tokio::spawn(back(way.clone(), front.clone(), from, faults.clone()));
                ways.insert(from, way.clone());
                way
            }
        };
        if !faults.cut_there.load(SeqCst) {
            faults.carry(&way, target, &packet[..size]).await;
        }
    }
}

async fn back(way: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, faults: Arc<Faults>) {
    let mut packet = vec![0; 65_536];
    // An error is the target's port that is shut for a while.
    loop {
        if let Ok((size, _)) = way.recv_from(&mut packet).await
            && !faults.cut_back.load(SeqCst)
        {
            faults.carry(&front, to, &packet[..size]).await;
        }
    }
}
