defmodule EventSeal.HostsTest do
  # test/hosts/ward is an application that depends on the library by path. Here it is built, tested, released and run
  # as its owner would: nothing of it knows that it stands in this repository.
  use ExUnit.Case, async: true

  @moduletag timeout: :timer.minutes(15)
  @ward Path.expand("hosts/ward", __DIR__)

  # All that a release may use of a machine. Neither cargo nor Erlang nor Elixir is among it.
  @tools ~w(sh env awk basename cat cut date dirname grep head hostname id mkdir mktemp od printf readlink rm sed sleep
            sort tail tr uname)

  setup_all do
    tmp = Path.join(System.tmp_dir!(), "event_seal_hosts_#{System.pid()}")
    release = Path.join(tmp, "release")
    on_exit(fn -> File.rm_rf!(tmp) end)
    File.mkdir_p!(Path.join(tmp, "elsewhere"))
    mix(~w(release --quiet --path) ++ [release], "prod", tmp)
    [tmp: tmp, host: %{release: release, path: tools(tmp), home: Path.join(tmp, "elsewhere")}]
  end

  test "the host's own tests pass", %{tmp: tmp} do
    assert mix(~w(test), "test", tmp) =~ ~r/3 tests, 0 failures/
  end

  test "the release finds neither Rust nor Elixir nor Erlang on its machine", %{host: host} do
    for tool <- ~w(cargo rustc elixir mix erl), do: assert({"", _} = run(host, ["sh", "-c", "command -v #{tool}"]))
  end

  test "the release writes, stops, starts again, finds its events and verifies them", %{host: host, tmp: tmp} do
    data = Path.join(tmp, "wards")
    desk = start(host, data)
    for bed <- 1..4, do: assert(ask(desk, "admit 4711 #{bed}") == "ok")
    for note <- ["sleeps", "wakes"], do: assert(ask(desk, "round 4711 #{note}") == "ok")
    assert ask(desk, "seal 4711") == "ok"
    assert ask(desk, "admit 4711 7") == "ok"
    stop(desk)

    desk = start(host, data)
    assert ask(desk, "stays 4711") == "bed 1, bed 2, bed 3, bed 4, sleeps, wakes, bed 7"
    assert ask(desk, "admit 4711 8") == "ok"
    assert ask(desk, "seal 4711") == "ok"
    assert ask(desk, "verify") == "8 events, 5 fixed, 0 faults"
    assert ask(desk, "verify night") == "8 events, 5 fixed, 0 faults"
    refute ask(desk, "libraries") =~ ~r/\b(mix|proper)\b/
    stop(desk)
  end

  test "what the mix tasks do, the release does through eval", %{host: host, tmp: tmp} do
    data = Path.join(tmp, "commands")
    desk = start(host, data)
    for bed <- 1..5, do: assert(ask(desk, "admit 4711 #{bed}") == "ok")
    assert ask(desk, "seal 4711") == "ok"
    stop(desk)

    assert {_, 0} = command(host, ~s|verify(["--dir", "#{data}"])|)
    assert {_, 0} = command(host, ~s|export(["--dir", "#{data}", "--out", "out"])|)
    [file] = Path.wildcard(Path.join(host.home, "out/*.jsonl"))
    assert {_, 0} = command(host, ~s|verify(["--file", "#{file}"])|)
    File.write!(file, file |> File.read!() |> String.replace("nurse/ines", "nurse/inez"))
    assert {_, 1} = command(host, ~s|verify(["--file", "#{file}"])|)
    assert {_, 2} = command(host, ~s|verify(["--dir", "nowhere"])|)
  end

  defp mix(args, env, tmp) do
    variables = [{"MIX_ENV", env}, {"MIX_BUILD_PATH", Path.join([tmp, "build", env])}, {"WARD_DATA", nil}]
    {said, code} = System.cmd("mix", args, cd: @ward, env: variables, stderr_to_stdout: true)
    assert code == 0, said
    said
  end

  defp tools(tmp) do
    bin = Path.join(tmp, "bin")
    File.mkdir_p!(bin)
    for tool <- @tools, found = System.find_executable(tool), do: File.ln_s!(found, Path.join(bin, tool))
    bin
  end

  defp command(host, call),
    do: run(host, [Path.join(host.release, "bin/ward"), "eval", "System.halt(EventSeal.Command.#{call})"])

  defp run(host, command),
    do: System.cmd("/usr/bin/env", bare(host) ++ command, cd: host.home, stderr_to_stdout: true)

  # The release in the foreground, with the ward's desk on its standard input and output.
  defp start(host, data) do
    args = bare(host) ++ ["WARD_DESK=1", "WARD_DATA=#{data}", Path.join(host.release, "bin/ward"), "start"]
    options = [:binary, :exit_status, :stderr_to_stdout, line: 4096, args: args, cd: host.home]
    Port.open({:spawn_executable, "/usr/bin/env"}, options)
  end

  # A machine with nothing but the tools above, without a network name.
  defp bare(host), do: ["-i", "PATH=#{host.path}", "HOME=#{host.home}", "LC_ALL=C.UTF-8", "RELEASE_DISTRIBUTION=none"]

  defp ask(desk, order) do
    Port.command(desk, order <> "\n")

    receive do
      {^desk, {:data, {:eol, "> " <> answer}}} -> answer
      {^desk, {:exit_status, code}} -> flunk("the release ended with #{code}")
    after
      60_000 -> flunk("the release does not answer")
    end
  end

  defp stop(desk) do
    Port.command(desk, "stop\n")
    assert_receive {^desk, {:exit_status, 0}}, 60_000
  end
end
