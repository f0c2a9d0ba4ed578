//! Turns outlooks and incidents into explained decisions, actions and alerts.
