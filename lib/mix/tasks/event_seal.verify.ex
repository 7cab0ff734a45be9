defmodule Mix.Tasks.EventSeal.Verify do
  @shortdoc "Verifies a store on disk, or interchange files"
  @moduledoc """
  Verifies that nothing was changed: every flow of the store in a folder, or interchange files without any store.

      mix event_seal.verify --dir DIR [--verification DIR|URL] [--head FILE] [--checkpoint FILE --key KEY…] [--anchors PEM] [--max-rate RATE]
      mix event_seal.verify --dir DIR --since FILE --key KEY… [--head FILE] [--anchors PEM] [--max-rate RATE]
      mix event_seal.verify --file FILE… [--key KEY…] [--max-rate RATE]

  With `--head`, a file that `mix event_seal.head` wrote earlier, a store that has lost since what it had then is recognised
  as rolled back. `--file` also takes the `.blocks` files of `mix event_seal.doctor`. With `--key`, the files must be archives,
  packets or proofs of events that this key has signed: the report says up to which position. Of any other, and of one that
  is not signed so, nothing is verified: the exit status is 2.

  A store is held against its own log, and the log against its last checkpoint, always. With `--checkpoint`, a file with a
  checkpoint that was kept elsewhere, and `--key`, the verifier key of the log (once for each that it had), a store that was
  rolled back, or written anew together with its log, is recognised too. A checkpoint that the key does not verify is
  no verification: the exit status is 2.

  With `--since`, a checkpoint's file likewise, the log is held against it, and only what came after it is looked at, with the
  block before that. The report says how many events were not looked at: what was changed in these is not found.

  With `--anchors`, a PEM file of certificates, a checkpoint must bear a time stamp of an authority that they vouch for
  (`EventSeal.Stamp`): the report says before which time it existed. Without, the newest stamp is shown, of whomever it is.

  With `--verification`, the store's verification store (`EventSeal.Apart`), both are compared: what differs is named, with the
  side that is wrong.

  With `--max-rate`, no more than so many events a second, `--max-rate 20000`, or bytes, `--max-rate 50MB` (B, kB, MB):
  for a verification that runs all day beside other work.

  Reports what was verified, and each fault: flow, position, class, and what is recorded beside what was recomputed
  (`EventSeal.Fault`). A host that holds the store may go on meanwhile.

  A database takes the place of the folder with `--store postgres://…`: see `EventSeal.Store.Postgres`.

  Exit status: 0 all verified, 1 faults found, 2 could not run.

  Without Mix: `EventSeal.Command.verify/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.verify(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
