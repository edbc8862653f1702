"""panfit: PAN, the Personalized Attention Network for outfit recommendation."""
