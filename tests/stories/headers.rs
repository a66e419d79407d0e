//! What a pod sees of a request, and what a client sees of an answer.
