//! Runs a program of the user's for each decision.
//!
//! The program gets the decision as JSON on its standard input, the same object that a webhook gets, and the variables
//! `BELLWETHER_WORKLOAD`, `BELLWETHER_REPLICAS`, `BELLWETHER_DECISION` and `BELLWETHER_DRY_RUN`. Exit code 0 means that it is
//! done, 75 (EX_TEMPFAIL) or a signal that another attempt makes sense, any other that it does not. No shell is involved.

use std::process::Stdio;

use async_trait::async_trait;
use bellwether_models::series::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::webhook::body;
use super::{ActError, Actuator, Applied, Effect};
use crate::config::CommandConfig;
use crate::plan::Decision;

/// The exit code that asks for another attempt.
const TRY_AGAIN: i32 = 75;

/// See the module.
pub struct Program(CommandConfig);

impl Program {
    /// An actuator that runs what `config` names.
    #[must_use]
    pub fn new(config: CommandConfig) -> Self {
        Self(config)
    }

    async fn run(&self, decision: &Decision, to: u32, body: &str, effect: Effect) -> std::io::Result<Option<i32>> {
        let mut process = Command::new(&self.0.program)
            .args(&self.0.arguments)
            .env("BELLWETHER_WORKLOAD", &decision.workload)
            .env("BELLWETHER_REPLICAS", to.to_string())
            .env("BELLWETHER_DECISION", &decision.id)
            .env("BELLWETHER_DRY_RUN", (effect == Effect::DryRun).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = process.stdin.take() {
            let _ = input.write_all(body.as_bytes()).await; // who does not read it may still do its work
        }
        Ok(process.wait().await?.code())
    }
}

#[async_trait]
impl Actuator for Program {
    fn name(&self) -> &'static str {
        "command"
    }

    async fn observe(&self, _: &str) -> Result<Option<u32>, ActError> {
        Ok(None)
    }

    async fn apply(&self, decision: &Decision, effect: Effect, _: Timestamp) -> Result<Applied, ActError> {
        let (Some(to), Some(body)) = (decision.to, body(decision, effect)) else { return Ok(Applied::Recorded) };
        let (workload, program) = (decision.workload.clone(), self.0.program.display().to_string());
        match self.run(decision, to, &body, effect).await {
            Err(source) => Err(ActError::NotRun { workload, program, source }),
            Ok(Some(0)) if effect == Effect::DryRun => Ok(Applied::WouldApply),
            Ok(Some(0)) => Ok(Applied::Accepted),
            Ok(code) => {
                let again = code.is_none_or(|code| code == TRY_AGAIN);
                Err(ActError::Unsuccessful { workload, program, code: code.unwrap_or(-1), again })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision() -> Decision {
        let text = serde_json::json!({
            "id": "shop-1", "workload": "shop", "at": 0, "mode": "act", "from": 4, "to": 8, "observed": 4, "reactive": 4,
            "floor": 4, "predicted": 8, "advice": { "ours": 8, "reactive": 4, "floor": 4 }, "reasons": [],
        });
        serde_json::from_value(text).expect("a decision")
    }

    async fn outcome(script: &str, effect: Effect) -> Result<Applied, ActError> {
        let config = CommandConfig { program: "sh".into(), arguments: vec!["-c".to_owned(), script.to_owned()] };
        Program::new(config).apply(&decision(), effect, Timestamp::from_secs(0)).await
    }

    #[tokio::test]
    async fn a_program_is_told_in_json_and_in_variables() {
        let script = r#"grep -q '"replicas":8,"from":4' && [ "$BELLWETHER_REPLICAS$BELLWETHER_WORKLOAD" = 8shop ]"#;
        assert_eq!(outcome(script, Effect::Real).await.expect("done"), Applied::Accepted);
        assert_eq!(outcome("[ $BELLWETHER_DRY_RUN = true ]", Effect::DryRun).await.expect("done"), Applied::WouldApply);
    }

    #[tokio::test]
    async fn its_exit_code_says_whether_to_try_again() {
        for (script, again) in [("exit 75", true), ("kill -9 $$", true), ("exit 1", false)] {
            let error = outcome(script, Effect::Real).await.expect_err(script);
            assert_eq!(error.is_transient(), again, "{error}");
        }
        let absent = Program::new(CommandConfig { program: "/nowhere/scale".into(), arguments: Vec::new() });
        let error = absent.apply(&decision(), Effect::Real, Timestamp::from_secs(0)).await.expect_err("not there");
        assert!(error.is_transient() && error.to_string().contains("/nowhere/scale"), "{error}");
    }
}
