//! From a reader to its container, and what is kept for each container.
