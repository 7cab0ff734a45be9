Code.require_file("native/compile.exs", __DIR__)

defmodule EventSeal.MixProject do
  use Mix.Project

  def project do
    [
      app: :event_seal,
      version: "0.1.0",
      description: "Event flows that cannot be changed unnoticed.",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      compilers: [:event_seal_native | Mix.compilers()],
      start_permanent: false,
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger, :crypto, :sasl, :ssl, :public_key] ++ test_applications(Mix.env())]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp test_applications(:test), do: [:proper, :runtime_tools]
  defp test_applications(_), do: []
end
