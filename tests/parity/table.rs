//! The table of transitions names everything there is.
