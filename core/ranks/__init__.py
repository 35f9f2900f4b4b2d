"""Several processes that train one run: how they are started, what they agree on, and how they end together.

accelerate moves gradients between them. What is ours passes through two ways that no step uses: `board`, a store of keys
where a rank may wait for another for as long as that takes, and `group`, exchanges on the host in which all take part at
once. `agreement` decides at which boundary wishes are taken up, `share` which batches are whose.
"""
