"""The probe: a short instrumented run of forward and backward passes."""
