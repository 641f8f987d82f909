from app.server.idle import IdleConnections


class Connection:
    """A connection that is its own transport."""

    def __init__(self):
        self.transport = self
        self.unsent = 0
        self.closed = False

    def get_write_buffer_size(self):
        return self.unsent

    def close(self):
        self.closed = True


def test_the_connection_that_is_idle_for_longest_is_closed_first():
    idle, connections = IdleConnections(), [Connection() for _ in range(3)]
    for connection in connections:
        idle.update(connection, idle=True)
    idle.update(connections[0], idle=True)  # it keeps its place
    idle.update(connections[1], idle=False)
    assert idle.close_longest()
    assert [each.closed for each in connections] == [True, False, False]
    idle.update(connections[1], idle=True)
    assert idle.close_longest()
    assert [each.closed for each in connections] == [True, False, True]


def test_a_connection_with_bytes_left_to_send_is_not_closed():
    idle, connections = IdleConnections(), [Connection() for _ in range(2)]
    connections[0].unsent = 5
    for connection in connections:
        idle.update(connection, idle=True)
    assert idle.close_longest()
    assert [each.closed for each in connections] == [False, True]
    assert not idle.close_longest()


def test_without_idle_connections_none_is_closed():
    idle, connection = IdleConnections(), Connection()
    idle.update(connection, idle=False)
    assert not idle.close_longest()
