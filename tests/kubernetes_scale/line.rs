//! A line to a server that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What passes between a client and a server, while it is whole.
pub struct Line {
    /// Where it begins: an address in place of the server's.
    pub url: String,
    whole: watch::Sender<bool>,
}

impl Line {
    /// To the server at `url`.
    pub async fn to(url: &str) -> Self {
        let (scheme, host) = url.split_once("://").expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
        let begins = listener.local_addr().expect("an address");
        let whole = watch::Sender::new(true);
        tokio::spawn(carry(listener, host.parse().expect("an address"), whole.clone()));
        Self { url: format!("{scheme}://{begins}"), whole }
    }

    /// Breaks every connection; new ones are taken, and nothing comes of them.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(listener: TcpListener, server: SocketAddr, whole: watch::Sender<bool>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut state = whole.subscribe();
        tokio::spawn(async move {
            if !*state.borrow_and_update() {
                let _ = state.changed().await; // silence until it is mended
                return;
            }
            let Ok(mut server) = TcpStream::connect(server).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = state.changed() => {}
            }
        });
    }
}
