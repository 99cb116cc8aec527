-- Refusals, as negative numbers; src/error.rs mirrors them in `Refusal`.
local JOB_MISSING = -1
local LOCK_MISSING = -2
local WRONG_STATE = -3
local PENDING_DEPENDENCIES = -4
local PARENT_MISSING = -5
local LOCK_LOST = -6
local PARENT_CONFLICT = -7
local SCHEDULER_OWNED = -8
local FAILED_CHILDREN = -9
local ITERATION_EXISTS = -10
local OCCURRENCES_TAKEN = -11
local LOCKED = -20
local ACTIVE_JOBS = -21
local NOT_PAUSED = -22
local WAITS_FOR_ITSELF = -23
