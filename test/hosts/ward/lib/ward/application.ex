defmodule Ward.Application do
  @moduledoc false
  use Application

  @impl true
  def start(_type, _args) do
    store = Application.get_env(:ward, :store, {EventSeal.Store.Memory, []})
    events = {EventSeal, name: Ward.Events, store: store, pool_window: 0}
    desk = if Application.get_env(:ward, :desk), do: [Ward.Desk], else: []
    Supervisor.start_link([events | desk], strategy: :rest_for_one, max_restarts: 0, name: Ward.Supervisor)
  end
end
