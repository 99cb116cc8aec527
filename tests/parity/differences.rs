//! Behaviour that differs from BullMQ on purpose.
