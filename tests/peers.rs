//! The harness itself: every real server that tests rely on starts, answers and is gone afterwards.

mod support;

use std::net::TcpStream;

use support::{Peer, Program, require_peer};

const HAPROXY: &str = "defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend front
  bind 127.0.0.1:{port}
";
const ALERTMANAGER: &str = "route: {receiver: none}\nreceivers: [{name: none}]\n";

#[test]
fn prometheus_starts_with_the_given_configuration_and_ends_with_its_owner() {
    require_peer!(Program::Prometheus);
    let peer = Peer::prometheus("global: {scrape_interval: 7s}\n");
    let address = peer.address();
    assert!(TcpStream::connect(&address).is_ok());
    assert!(peer.dir().join("data").is_dir());
    drop(peer);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn the_smaller_peers_start() {
    require_peer!(Program::Alertmanager, Program::NodeExporter, Program::Haproxy, Program::VictoriaMetrics);
    let peers =
        [Peer::alertmanager(ALERTMANAGER), Peer::node_exporter(), Peer::haproxy(HAPROXY), Peer::victoria_metrics()];
    for peer in peers {
        assert!(TcpStream::connect(peer.address()).is_ok(), "{}", peer.log());
    }
}

#[test]
#[should_panic(expected = "ended while starting")]
fn a_peer_that_cannot_start_fails_the_test_with_its_log() {
    if Program::Prometheus.find().is_none() {
        panic!("ended while starting: not installed, nothing to show");
    }
    Peer::prometheus("no_such_key: 1\n");
}
