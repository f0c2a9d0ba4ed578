//! A team's own words for titles and texts: Jinja templates over the notice.

use minijinja::{Environment, UndefinedBehavior};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::notice::Notice;

/// Why a template cannot be filled in.
pub type TemplateError = minijinja::Error;

/// Steps one template may take: no loop holds an alert up.
const FUEL: u64 = 20_000;

/// Templates in Jinja's language over the fields of a notice (`workload`, `severity`, `state`, `title`, `text`, `causes`,
/// …); what they make is the same for every receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    /// One line. Default: what is ill and the most likely cause.
    pub title: Option<String>,
    /// The story. Default: since when, the three likeliest causes with their evidence.
    pub text: Option<String>,
}

impl Templates {
    /// Whether both can be filled in.
    ///
    /// # Errors
    /// Which one cannot, and why.
    pub fn check(&self) -> Result<(), (&'static str, TemplateError)> {
        let sample = Notice::sample();
        for (which, template) in [("title", &self.title), ("text", &self.text)] {
            if let Some(template) = template {
                fill(template, &sample).map_err(|source| (which, source))?;
            }
        }
        Ok(())
    }

    /// The notice in the team's words; in ours where a template fails.
    #[must_use]
    pub(super) fn applied_to(&self, notice: Notice) -> Notice {
        let filled = |template: &Option<String>, ours: &String| match template.as_ref().map(|t| fill(t, &notice)) {
            Some(Ok(text)) => text,
            Some(Err(error)) => {
                metrics::counter!("bellwether_scheduler_template_failures_total").increment(1);
                warn!(error = &error as &dyn std::error::Error, "a template of alerts could not be filled in");
                ours.clone()
            }
            None => ours.clone(),
        };
        let (title, text) = (filled(&self.title, &notice.title), filled(&self.text, &notice.text));
        Notice { title, text, ..notice }
    }
}

fn fill(template: &str, notice: &Notice) -> Result<String, TemplateError> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.render_str(template, notice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(title: &str) -> Templates {
        Templates { title: Some(title.to_owned()), text: None }
    }

    #[test]
    fn a_template_sees_every_field_of_the_notice() {
        let templates = own("[{{ severity }}] {{ workload }}{% for c in causes %} · {{ c.service }}{% endfor %}");
        let sample = Notice::sample();
        let notice = templates.applied_to(sample.clone());
        assert_eq!(notice.title, "[critical] checkout · payments");
        assert_eq!(notice.text, sample.text, "what has no template stays as it was");
    }

    #[test]
    fn a_template_that_cannot_be_filled_in_is_found_when_it_is_checked_and_harmless_later() {
        for broken in
            ["{{ workloda }}", "{% for x in range(100000) %}{% for y in range(100000) %}{% endfor %}{% endfor %}", "{{"]
        {
            assert!(own(broken).check().is_err(), "{broken}");
            assert_eq!(own(broken).applied_to(Notice::sample()), Notice::sample());
        }
    }
}
