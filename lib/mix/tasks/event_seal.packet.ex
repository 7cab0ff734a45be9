defmodule Mix.Tasks.EventSeal.Packet do
  @shortdoc "Writes a flow, or a part of it, for somebody else"
  @moduledoc """
  Writes a flow, or a part of it, as a packet: an archive in which only some bodies show (`EventSeal.packet/3`).

      mix event_seal.packet --dir DIR [--archive DIR] --flow FLOW [--range A-B] [--since TIME] [--until TIME]
                            [--disclose | --show N…] --out FILE

  `--range 5-12` asks for positions, `--since` and `--until` for times of events, as 2026-03-01T08:30:00Z: a packet holds the
  whole blocks that have any of them, and where no end was asked for the tail too. No body shows unless `--disclose` asks for all, or
  `--show`, once for each, for those at some positions; of the others nothing is there but their commitments.

  A host that holds the store may go on meanwhile. A file that is there is not written over. `event-seal verify` and
  `mix event_seal.verify --file FILE --key KEY` check it.

  Exit status: 0 written, 2 could not run.

  Without Mix: `EventSeal.Command.packet/1`.
  """
  use Mix.Task

  @impl true
  def run(args) do
    Mix.Task.run("app.config")
    status = EventSeal.Command.packet(args)
    if status != 0, do: exit({:shutdown, status})
  end
end
