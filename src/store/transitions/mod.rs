//! One file per Lua script that changes a queue.

pub(crate) mod add_log;
pub(crate) mod advance;
pub(crate) mod change_delay;
pub(crate) mod change_priority;
pub(crate) mod change_settings;
pub(crate) mod check_schedulers;
pub(crate) mod drain;
pub(crate) mod enqueue;
pub(crate) mod events;
pub(crate) mod extend_locks;
pub(crate) mod limit_rate;
pub(crate) mod next_iteration;
pub(crate) mod next_repeatable;
pub(crate) mod pause;
pub(crate) mod promote_job;
pub(crate) mod reclaim;
pub(crate) mod recover_stalled;
pub(crate) mod release_deduplication;
pub(crate) mod remove_job;
pub(crate) mod remove_scheduler;
pub(crate) mod repair_scheduler;
pub(crate) mod retry_job;
pub(crate) mod trim_finished;
pub(crate) mod update;
pub(crate) mod upsert_scheduler;
pub(crate) mod wake;
