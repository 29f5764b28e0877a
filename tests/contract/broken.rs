//! A coherent machine made by hand, in which nothing fails; then one thing is broken after the other, and the item for
//! it must notice.
