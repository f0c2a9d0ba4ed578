//! A bad network between a sender and us: each connection has a fate that a seed draws.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The next of a sequence that a seed fixes (splitmix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The seed of this run: `BELLWETHER_SEED`, or a fixed one.
pub fn seed() -> u64 {
    std::env::var("BELLWETHER_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_231_114)
}

/// What becomes of a connection after so many bytes.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing.
    Well,
    /// Every piece waits so many milliseconds.
    Slow { millis: u64 },
    /// Cut while the sender speaks: we hear a part.
    CutRequest { after: u64 },
    /// Cut while we answer: the work is done, and the sender does not know.
    CutAnswer { after: u64 },
    /// The sender's side is closed; our answers still pass.
    HalfClose { after: u64 },
    /// Somebody between answers 503 and passes nothing on.
    Storm,
    /// Somebody between passes all on and answers 503 in our place.
    LyingStorm,
    /// One bit of what the sender says is turned over.
    CorruptRequest { after: u64 },
    /// One bit of what we answer is turned over.
    CorruptAnswer { after: u64 },
}

/// Whether bits are turned over too, and whether somebody between speaks HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Plain HTTP: what is turned over on the way could not be known from what was sent.
    Plain,
    /// TLS: only the two ends speak HTTP, and every turned bit is noticed.
    Tls,
}

/// A proxy that does harm.
pub struct Tangle {
    pub address: SocketAddr,
    harm: Arc<AtomicU64>,
    calm: Arc<AtomicBool>,
}

impl Tangle {
    /// Listens on a loopback port and passes on to `to`.
    pub async fn before(to: SocketAddr, seed: u64, carrier: Carrier) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let address = listener.local_addr().expect("its address");
        let (harm, calm) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, is_calm) = (harm.clone(), calm.clone());
        tokio::spawn(async move {
            let mut dice = Dice::new(seed);
            while let Ok((sender, _)) = listener.accept().await {
                let drawn = draw(&mut dice, carrier);
                let fate = if is_calm.load(Ordering::Relaxed) { Fate::Well } else { drawn };
                count.fetch_add(u64::from(!matches!(fate, Fate::Well)), Ordering::Relaxed);
                tokio::spawn(carry(sender, to, fate));
            }
        });
        Self { address, harm, calm }
    }

    /// Connections that came to harm so far.
    pub fn harm(&self) -> u64 {
        self.harm.load(Ordering::Relaxed)
    }

    /// From now on new connections fare well.
    pub fn calm(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }
}

fn draw(dice: &mut Dice, carrier: Carrier) -> Fate {
    // Of a few kilobytes, so that cuts fall into the middle of a request or of a later one.
    let (kind, after) = (dice.below(12), dice.below(6000));
    match kind {
        0..=2 => Fate::Well,
        3 => Fate::Slow { millis: after % 40 },
        4 | 5 => Fate::CutRequest { after },
        6 | 7 => Fate::CutAnswer { after: after % if carrier == Carrier::Tls { 3000 } else { 300 } },
        8 => Fate::HalfClose { after },
        9 if carrier == Carrier::Plain => Fate::Storm,
        10 | 11 if carrier == Carrier::Plain => Fate::LyingStorm,
        9 | 10 => Fate::CorruptRequest { after },
        _ => Fate::CorruptAnswer { after: after % 3000 },
    }
}

/// Ends with either side, and not later than this: a sender shall come to know other fates.
const LONGEST: Duration = Duration::from_secs(2);

async fn carry(mut sender: TcpStream, to: SocketAddr, fate: Fate) {
    if matches!(fate, Fate::Storm) {
        return answer_503(&mut sender).await;
    }
    let Ok(receiver) = TcpStream::connect(to).await else { return };
    let (from_sender, mut to_sender) = sender.into_split();
    let (from_receiver, to_receiver) = receiver.into_split();
    let lies = matches!(fate, Fate::LyingStorm);
    let there = pass(from_sender, to_receiver, harm_to_request(fate));
    let back = async {
        if lies {
            let mut heard = from_receiver;
            let mut first = [0; 1];
            // All was passed on once we begin to answer.
            let _ = heard.read_exact(&mut first).await;
            let _ = to_sender.write_all(UNAVAILABLE).await;
        } else {
            pass(from_receiver, to_sender, harm_to_answer(fate)).await;
        }
    };
    let both = async {
        match fate {
            Fate::HalfClose { .. } => drop(tokio::join!(there, back)),
            _ => tokio::select! { () = there => {}, () = back => {} },
        }
    };
    let _ = tokio::time::timeout(LONGEST, both).await;
}

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

async fn answer_503(sender: &mut TcpStream) {
    let mut heard = [0; 65_536];
    let _ = sender.read(&mut heard).await;
    let _ = sender.write_all(UNAVAILABLE).await;
}

/// What happens to one direction.
#[derive(Clone, Copy)]
enum Harm {
    None,
    Wait { millis: u64 },
    End { after: u64 },
    Flip { after: u64 },
}

fn harm_to_request(fate: Fate) -> Harm {
    match fate {
        Fate::Slow { millis } => Harm::Wait { millis },
        Fate::CutRequest { after } | Fate::HalfClose { after } => Harm::End { after },
        Fate::CorruptRequest { after } => Harm::Flip { after },
        _ => Harm::None,
    }
}

fn harm_to_answer(fate: Fate) -> Harm {
    match fate {
        Fate::Slow { millis } => Harm::Wait { millis },
        Fate::CutAnswer { after } => Harm::End { after },
        Fate::CorruptAnswer { after } => Harm::Flip { after },
        _ => Harm::None,
    }
}

/// Passes bytes on until an end, or until harm ends it.
async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, harm: Harm) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut end = read;
        match harm {
            Harm::None => {}
            Harm::Wait { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
            Harm::End { after } => end = read.min(after.saturating_sub(passed) as usize),
            Harm::Flip { after } if (passed..passed + read as u64).contains(&after) => {
                buffer[(after - passed) as usize] ^= 1 << (after % 8);
            }
            Harm::Flip { .. } => {}
        }
        passed += read as u64;
        if to.write_all(&buffer[..end]).await.is_err() || end < read {
            break;
        }
    }
    let _ = to.shutdown().await;
}
