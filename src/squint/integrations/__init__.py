"""Optional: Squint inside other frameworks. Each module needs its extra, and nothing needs it."""
