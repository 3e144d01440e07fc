"""Tests beside other implementations need an environment of their own (infra/setup/peers.sh); elsewhere they
are not collected."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torchtune") else ["peers"]
