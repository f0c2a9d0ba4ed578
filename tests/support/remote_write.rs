//! A sender of Prometheus remote write 1.x, written from the published field numbers.

use bellwether_collector::store::SeriesSamples;

/// The body of a request: `WriteRequest`, snappy-compressed.
pub fn body(series: &[SeriesSamples]) -> Vec<u8> {
    let mut request = Vec::new();
    for one in series {
        put_bytes(&mut request, 1, &time_series(one));
    }
    snap::raw::Encoder::new().compress_vec(&request).expect("what is small can be compressed")
}

/// Sends `series` to `url` and panics when they are refused.
pub async fn send(client: &reqwest::Client, url: &str, series: &[SeriesSamples]) {
    let answer = client
        .post(url)
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "0.1.0")
        .body(body(series))
        .send()
        .await
        .expect("the receiver answers");
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
}

fn time_series(series: &SeriesSamples) -> Vec<u8> {
    let mut message = Vec::new();
    for (name, value) in series.labels.iter() {
        let mut label = Vec::new();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        put_bytes(&mut message, 1, &label);
    }
    for sample in &series.samples {
        let mut encoded = vec![1 << 3 | 1];
        encoded.extend(sample.value.to_bits().to_le_bytes());
        encoded.push(2 << 3);
        put_varint(&mut encoded, sample.at.as_millis() as u64);
        put_bytes(&mut message, 2, &encoded);
    }
    message
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
