//! Who counts as ready, how soon a dead pod is out, and what is served when nobody is ready.
