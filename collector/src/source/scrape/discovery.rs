//! Targets from files and servers: asked again and again; a bad answer keeps what was said before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use metrics::counter;
use regex::Regex;
use tracing::warn;

use super::config::{FileSdConfig, HttpSdConfig, ScrapeConfig, TargetGroup};
use super::fetch::Fetcher;
use crate::ingest::is_label_name;

/// How a target file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Json,
    Yaml,
}

/// How a file is written by the end of its name.
pub(super) fn kind_of(path: &Path) -> Option<FileKind> {
    match path.extension()?.to_str()? {
        "json" => Some(FileKind::Json),
        "yml" | "yaml" => Some(FileKind::Yaml),
        _ => None,
    }
}

/// All that finds the targets of a job.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    files: TargetFiles,
    servers: TargetServers,
    #[cfg(feature = "kubernetes")]
    clusters: super::kubernetes::Clusters,
}

impl Discovery {
    /// The targets there are now; servers are asked only where there is a client.
    pub(super) async fn groups(&mut self, config: &ScrapeConfig, fetcher: Option<&Fetcher>) -> Vec<TargetGroup> {
        let mut groups = config.static_configs.clone();
        groups.extend(self.files.refresh(&config.file_sd_configs).await);
        if let Some(fetcher) = fetcher {
            groups.extend(self.servers.refresh(&config.http_sd_configs, fetcher).await);
        }
        #[cfg(feature = "kubernetes")]
        groups.extend(self.clusters.refresh(&config.kubernetes_sd_configs).await);
        groups
    }
}

/// What target files said when they were last good.
#[derive(Debug, Default)]
struct TargetFiles(BTreeMap<PathBuf, Good>);

#[derive(Debug)]
struct Good {
    changed: Option<SystemTime>,
    groups: Vec<TargetGroup>,
}

impl TargetFiles {
    /// Reads the files that are named and that changed; gives the groups of all.
    async fn refresh(&mut self, configs: &[FileSdConfig]) -> Vec<TargetGroup> {
        let mut present = Vec::new();
        for pattern in configs.iter().flat_map(|config| &config.files) {
            present.extend(matching(Path::new(pattern)).await);
        }
        self.0.retain(|path, _| present.contains(path));
        for path in present {
            self.read(path).await;
        }
        self.0.values().flat_map(|good| good.groups.clone()).collect()
    }

    async fn read(&mut self, path: PathBuf) {
        let changed = tokio::fs::metadata(&path).await.and_then(|meta| meta.modified()).ok();
        let known = self.0.get(&path).is_some_and(|good| good.changed.is_some() && good.changed == changed);
        if known {
            return;
        }
        match read_groups(&path).await {
            Ok(groups) => {
                self.0.insert(path, Good { changed, groups });
            }
            Err(problem) => {
                counter!("bellwether_scrape_target_file_errors_total").increment(1);
                warn!(path = %path.display(), problem, "target file cannot be used; its earlier targets are kept");
                self.0.entry(path).or_insert(Good { changed, groups: Vec::new() }).changed = changed;
            }
        }
    }
}

async fn read_groups(path: &Path) -> Result<Vec<TargetGroup>, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    let groups = parse(&text, kind_of(path).unwrap_or(FileKind::Yaml))?;
    Ok(with_origin(groups, "__meta_filepath", &path.display().to_string()))
}

fn parse(text: &str, kind: FileKind) -> Result<Vec<TargetGroup>, String> {
    let groups: Vec<TargetGroup> = match kind {
        FileKind::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
        FileKind::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
    };
    match groups.iter().flat_map(|group| group.labels.keys()).find(|name| !is_label_name(name)) {
        Some(name) => Err(format!("{name:?} is not a label name")),
        None => Ok(groups),
    }
}

fn with_origin(mut groups: Vec<TargetGroup>, label: &str, origin: &str) -> Vec<TargetGroup> {
    for group in &mut groups {
        group.labels.insert(label.to_owned(), origin.to_owned());
    }
    groups
}

/// What servers said when they last answered well.
#[derive(Debug, Default)]
struct TargetServers(BTreeMap<String, (Instant, Vec<TargetGroup>)>);

impl TargetServers {
    /// Asks the servers whose time has come; gives the groups of all.
    async fn refresh(&mut self, configs: &[HttpSdConfig], fetcher: &Fetcher) -> Vec<TargetGroup> {
        self.0.retain(|url, _| configs.iter().any(|config| config.url == *url));
        for HttpSdConfig { url, refresh_interval } in configs {
            let fresh = self.0.get(url).is_some_and(|(asked, _)| asked.elapsed() < *refresh_interval);
            if !fresh {
                self.ask(url, fetcher).await;
            }
        }
        self.0.values().flat_map(|(_, groups)| groups.clone()).collect()
    }

    async fn ask(&mut self, url: &str, fetcher: &Fetcher) {
        let body = fetcher.fetch_list(url).await.map_err(|failure| failure.to_string());
        let text = body.and_then(|body: Vec<u8>| String::from_utf8(body).map_err(|error| error.to_string()));
        let known = self.0.entry(url.to_owned()).or_insert_with(|| (Instant::now(), Vec::new()));
        known.0 = Instant::now();
        match text.and_then(|text| parse(&text, FileKind::Json)) {
            Ok(groups) => known.1 = with_origin(groups, "__meta_url", url),
            Err(problem) => {
                counter!("bellwether_scrape_target_server_errors_total").increment(1);
                warn!(url, problem, "a server of targets cannot be used; its earlier targets are kept");
            }
        }
    }
}

/// Files that a pattern names; `*` stands for any text in the last part.
async fn matching(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.contains('*') {
        return if tokio::fs::try_exists(pattern).await.unwrap_or(false) {
            vec![pattern.to_owned()]
        } else {
            Vec::new()
        };
    }
    let folder = pattern.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(regex) = Regex::new(&format!("^{}$", regex::escape(name).replace(r"\*", ".*"))) else { return Vec::new() };
    let Ok(mut entries) = tokio::fs::read_dir(folder).await else { return Vec::new() };
    let mut found = Vec::new();
    while let Ok(Some(entry)) = entries.next_entry().await {
        if entry.file_name().to_str().is_some_and(|name| regex.is_match(name)) {
            found.push(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_file_keeps_its_earlier_targets_and_a_lost_file_loses_them() {
        let folder = tempfile::tempdir().unwrap();
        let (good, bad) = (folder.path().join("a.json"), folder.path().join("b.yml"));
        std::fs::write(&good, r#"[{"targets": ["h:1"], "labels": {"zone": "eu"}}]"#).unwrap();
        std::fs::write(&bad, "- targets: [h:2]\n").unwrap();
        let pattern = |name| folder.path().join(name).display().to_string();
        let configs = [FileSdConfig { files: vec![pattern("*.json"), pattern("*.yml")], ..FileSdConfig::default() }];
        let mut files = TargetFiles::default();

        let first = files.refresh(&configs).await;
        assert_eq!(first.iter().flat_map(|group| group.targets.clone()).collect::<Vec<_>>(), ["h:1", "h:2"]);
        assert_eq!(first[0].labels["__meta_filepath"], good.display().to_string());

        std::fs::write(&bad, "- targetz: [h:3]\n").unwrap();
        std::fs::File::options().write(true).open(&bad).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(files.refresh(&configs).await, first);

        std::fs::remove_file(&good).unwrap();
        assert_eq!(files.refresh(&configs).await, first[1..]);
    }
}
