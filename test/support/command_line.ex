defmodule EventSeal.CommandLine do
  @moduledoc false
  # A command as a user runs it.

  import ExUnit.CaptureIO

  @doc "Its exit status and all that it prints, to whichever stream."
  def command(name, args) do
    me = self()

    text =
      capture_io(fn ->
        errors = capture_io(:stderr, fn -> send(me, {:status, apply(EventSeal.Command, name, [args])}) end)
        IO.write(errors)
      end)

    receive do
      {:status, status} -> {status, text}
    end
  end
end
