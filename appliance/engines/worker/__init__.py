# SPDX-License-Identifier: Apache-2.0
"""Engine workers: a process hosts one provider and serves its interface by gRPC.

Worker's side: `__main__` and `process` (the process), `host` (the services).
Box's side: `remote` (providers that live elsewhere), `link` (a connection), `supervisor` (who starts,
watches and replaces the processes). Both: `engine.proto`, `codec`, `faults`.
"""
