//! Where samples come from: scrapes, remote write, line protocol, this machine.
