//! Backups of a running server's store.

use std::error::Error;
use std::path::{Component, Path, PathBuf};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bellwether_collector::store::SharedStore;
use serde::Deserialize;
use serde_json::json;

/// `POST /api/v1/store/backup` with `{"to": DIRECTORY}`: writes what is held at this moment to an empty directory under
/// `root`.
pub fn router(store: SharedStore, root: Option<PathBuf>) -> Router {
    Router::new().route("/api/v1/store/backup", post(backup)).with_state((store, root))
}

#[derive(Deserialize)]
struct Wanted {
    to: PathBuf,
}

async fn backup(
    State((store, root)): State<(SharedStore, Option<PathBuf>)>,
    Json(Wanted { to }): Json<Wanted>,
) -> Response {
    let Some(root) = root else {
        return refusal(
            StatusCode::FORBIDDEN,
            "this server makes no backups; set store.embedded.backup_root".to_owned(),
        );
    };
    if !is_within(&to, &root) {
        let text = format!("{} does not lie under store.embedded.backup_root, {}", to.display(), root.display());
        return refusal(StatusCode::FORBIDDEN, text);
    }
    match store.backup(&to).await {
        Ok(backup) => Json(backup).into_response(),
        Err(error) => refusal(StatusCode::UNPROCESSABLE_ENTITY, in_words(&error)),
    }
}

fn refusal(status: StatusCode, error: String) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// Whether a path lies below a directory, without a way back up in it.
fn is_within(path: &Path, root: &Path) -> bool {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.starts_with(&root) && path != root
}

/// An error and its causes.
fn in_words(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_root_is_written_to() {
        let root = Path::new("/backups");
        assert!(is_within(Path::new("/backups/monday"), root));
        for elsewhere in ["/backups", "/backups/../etc", "/etc", "/backupsx/a", "backups/a", "/backups/./../x"] {
            assert!(!is_within(Path::new(elsewhere), root), "{elsewhere}");
        }
    }
}
