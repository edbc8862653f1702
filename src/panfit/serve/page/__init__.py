"""PAGE: what a person sees at `/`: server-rendered, without a build step, from this machine alone."""
