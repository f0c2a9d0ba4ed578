//! One client for all servers of a test, and our own routes behind a real socket.

use std::sync::Once;

use axum::Router;

/// Installs the cryptography that the client library wants to find, even for plain HTTP; ours, as the binary does.
pub fn install_cryptography() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A client for any server of a test.
pub fn client() -> reqwest::Client {
    install_cryptography();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Serves `router` on a free loopback port until the runtime ends; gives back `http://127.0.0.1:port`.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free loopback port");
    let address = listener.local_addr().expect("the listener's address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}
