"""A small library of learning experiments, and the machinery that turns them into tested claims."""
