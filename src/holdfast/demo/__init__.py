"""The main job, shown: a payments service under load and faults whose books balance.

Read `service.py` first: it is the service as its team would write it. `director.py` is the bad day it
has, `client.py` who pays, `audit.py` what is compared in the end.
"""
