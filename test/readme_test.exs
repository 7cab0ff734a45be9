defmodule EventSeal.ReadmeTest do
  # Every line of code in README.md runs here, in its order, in an empty folder.
  use ExUnit.Case, async: false

  @readme File.read!("README.md")
  @external_resource "README.md"

  @tag :tmp_dir
  test "the Elixir code runs as it stands", %{tmp_dir: dir} do
    blocks = blocks("elixir")
    assert length(blocks) >= 3

    bindings =
      File.cd!(dir, fn ->
        Enum.reduce(blocks, [], fn code, bindings ->
          code |> Code.eval_string(bindings, file: "README.md") |> elem(1)
        end)
      end)

    assert File.dir?(Path.join(dir, "data"))
    for supervisor <- [bindings[:_supervisor], bindings[:signing], bindings[:apart]], do: Supervisor.stop(supervisor)
  end

  @tag :tmp_dir
  test "the Erlang module compiles and runs as it stands", %{tmp_dir: dir} do
    assert [code] = blocks("erlang")
    path = Path.join(dir, "ward.erl")
    File.write!(path, code)
    assert {:ok, :ward, beam, []} = :compile.file(String.to_charlist(path), [:binary, :return])
    assert {:module, :ward} = :code.load_binary(:ward, ~c"ward.erl", beam)
    assert :ok = File.cd!(dir, fn -> apply(:ward, :day, []) end)
    Supervisor.stop(:ward)
  end

  test "the files it links to are there" do
    links = Regex.scan(~r/\]\((?!https:)([^)]+)\)/, @readme, capture: :all_but_first)
    assert length(links) >= 4
    for [path] <- links, do: assert(File.exists?(path), path)
  end

  test "the commands it names are there" do
    for command <- ~w(bin/demo bin/test), do: assert(@readme =~ command and File.exists?(command))

    for [task] <- Regex.scan(~r/mix (event_seal\.\w+)/, @readme, capture: :all_but_first) do
      assert Mix.Task.get(task), "mix #{task}"
    end
  end

  defp blocks(language) do
    ~r/^```#{language}\n(.*?)^```/ms |> Regex.scan(@readme, capture: :all_but_first) |> List.flatten()
  end
end
